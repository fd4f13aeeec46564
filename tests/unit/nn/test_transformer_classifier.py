import pytest
import torch

from lightning_qsgd.nn import TransformerClassifier, TransformerSizes


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TransformerClassifier()


@pytest.fixture
def tokens():
    return torch.randint(1, 1000, (3, 20), generator=torch.Generator().manual_seed(0))


def test_default_network_has_the_papers_131204_parameters(network):
    assert sum(p.numel() for p in network.parameters()) == 131_204


def test_logits_have_one_entry_per_class(tokens):
    assert TransformerClassifier(num_classes=6)(tokens).shape == (3, 6)


def test_appending_pad_changes_no_logit_while_training_and_while_evaluating(tokens):
    torch.manual_seed(0)
    network = TransformerClassifier(dropout=0.0)
    padded = torch.cat([tokens, torch.zeros(3, 12, dtype=torch.int64)], dim=1)
    for mode in (True, False):
        network.train(mode)
        assert torch.allclose(network(padded), network(tokens), atol=1e-5)


def test_evaluation_without_gradients_gives_the_same_logits(network, tokens):
    network.eval()
    padded = torch.cat([tokens, torch.zeros(3, 5, dtype=torch.int64)], dim=1)
    with torch.no_grad():
        fast = network(padded)
    assert torch.allclose(fast, network(padded), atol=1e-5)


def test_order_of_tokens_matters(network, tokens):
    network.eval()
    assert not torch.allclose(network(tokens.flip(1)), network(tokens), atol=1e-3)


def test_a_sequence_of_only_pad_gets_the_bias_of_the_head_and_finite_gradients(network):
    tokens = torch.tensor([[0, 0, 0], [5, 6, 7]])
    logits = network(tokens)
    assert torch.allclose(logits[0], network.head.bias)
    logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_a_sequence_of_only_pad_is_finite_on_torchs_inference_path(network):
    network.eval()
    with torch.no_grad():
        logits = network(torch.tensor([[0, 0, 0], [5, 6, 7]]))
    assert torch.allclose(logits[0], network.head.bias)
    assert logits.isfinite().all()


def test_the_embedding_of_pad_never_gets_a_gradient(network, tokens):
    network(torch.cat([tokens, torch.zeros_like(tokens)[:, :4]], dim=1)).sum().backward()
    assert network.embedding.weight.grad[0].eq(0).all()
    assert network.embedding.weight.grad[tokens].abs().sum() > 0


def test_layers_start_from_different_weights(network):
    first, second = (layer.linear1.weight for layer in network.layers)
    assert not first.equal(second)


def test_normalisation_comes_after_each_block(network):
    assert not any(layer.norm_first for layer in network.layers)


def test_position_codes_are_no_parameters_and_not_in_the_checkpoint(network):
    assert "positions" in dict(network.named_buffers())
    assert "positions" not in network.state_dict()


def test_dropout_acts_in_training_only(network, tokens):
    assert not network(tokens).equal(network(tokens))
    network.eval()
    assert network(tokens).equal(network(tokens))


def test_other_sizes_build_another_network(tokens):
    sizes = TransformerSizes(embedding=8, heads=2, feed_forward=16, layers=3)
    network = TransformerClassifier(sizes=sizes)
    assert len(network.layers) == 3
    assert network(tokens).shape == (3, 4)


def test_sequences_without_a_position_code_are_refused(network):
    with pytest.raises(ValueError, match="at most 32 tokens per sequence, got 33"):
        network(torch.ones(1, 33, dtype=torch.int64))


def test_a_single_sequence_without_batch_dimension_is_refused(network):
    with pytest.raises(ValueError, match=r"shape \(batch, length\), got \(5,\)"):
        network(torch.ones(5, dtype=torch.int64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 1}, "`vocab_size` to be at least 2, got 1"),
        ({"num_classes": 1}, "`num_classes` to be at least 2, got 1"),
        ({"max_length": 0}, "`max_length` to be at least 1, got 0"),
        ({"dropout": 1.0}, r"`dropout` to be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TransformerClassifier(**arguments)
