"""Help of flags that lists what is registered when the help is read."""

from collections.abc import Callable, Iterator, Mapping


class LiveHelp(Mapping[str, str]):
    """Metadata of a dataclass field whose help is made anew each time, so that it names what was registered since.

    Args:
        text: Makes the help.
    """

    def __init__(self, text: Callable[[], str]):
        self._text = text

    def __getitem__(self, key: str) -> str:
        if key != "help":
            raise KeyError(key)
        return self._text()

    def __iter__(self) -> Iterator[str]:
        return iter(["help"])

    def __len__(self) -> int:
        return 1

    def copy(self) -> dict[str, str]:
        """Return the metadata as it is now."""
        return dict(self)
