"""A recording that stands in for a model's server: real HTTP, both OpenAI interfaces, loud when it does not fit."""
