"""Tags are unique, and TensorBoard can group them."""

from lightning_qsgd.tracking import tags

NAMES = [value for name, value in vars(tags).items() if name.isupper() and isinstance(value, str)]


def test_no_tag_is_used_twice():
    assert len(set(NAMES)) == len(NAMES)


def test_every_tag_belongs_to_a_group():
    groups = {name.split("/")[0] for name in NAMES}

    assert groups == {"perturbation", "baseline", "convergence", "circuit"}


def test_derived_tags_differ_from_the_metric_and_from_each_other():
    derive = [str, tags.gap_tag, tags.best_tag, tags.final_tag]
    derived = [make(metric) for make in derive for metric in ("val/loss", "val_loss")]

    assert len(set(derived)) == len(derived)


def test_every_tag_is_known_as_the_packages_own_and_no_metric_is():
    derived = [make("val/loss") for make in (tags.gap_tag, tags.best_tag, tags.final_tag)]

    assert all(map(tags.is_own, NAMES + derived))
    assert not tags.is_own("val/loss")
