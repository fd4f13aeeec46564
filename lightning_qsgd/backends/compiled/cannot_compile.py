"""What is raised for circuits that only a sampler can evaluate."""


class CannotCompile(ValueError):  # noqa: N818 - reads as what it says
    """Raised for a gate, an angle or a measurement that the compiled circuit does not know."""
