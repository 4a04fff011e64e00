"""The components that come with saecore, each registered like a stranger's."""
