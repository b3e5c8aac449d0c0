"""Networks by name: encoders, torsos and heads."""
