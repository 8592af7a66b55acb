from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from magvit2_pytorch.configs import config_from_dict, config_to_dict


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Config:
    size: int
    rate: float = 1.0
    is_on: bool = False
    kind: Literal["one", "two", 1] = "one"
    pair: tuple[int, int] = (1, 2)
    names: tuple[str, ...] = ()
    path: Path = Path("a")
    maybe: int | None = None
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")


def test_a_config_comes_back_from_json() -> None:
    config = Config(3, 2.5, True, "two", (3, 4), ("a", "b"), Path("b"), 7, Inner(0.1))

    assert config_from_dict(Config, config_to_dict(config)) == config
    assert config_from_dict(Config, {"size": 1, "rate": 2}) == Config(1, 2.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": True}, "config.size must be int, got True"),
        ({"size": 1.0}, "config.size must be int, got 1.0"),
        ({"size": "1"}, "config.size must be int, got '1'"),
        ({"size": 2**63}, "config.size must fit into 64 bits, got an integer of 64 bits"),
        ({"rate": True}, "config.rate must be float, got True"),
        ({"rate": float("nan")}, "config.rate must be float, got nan"),
        ({"rate": float("inf")}, "config.rate must be float, got inf"),
        ({"rate": 10**400}, "config.rate must be float, got 1000"),
        ({"is_on": 1}, "config.is_on must be bool, got 1"),
        ({"kind": "three"}, "config.kind must be one of 'one', .*, got 'three'"),
        ({"kind": True}, "config.kind must be .*, got True"),
        ({"kind": ["one"]}, "config.kind must be .*got"),
        ({"pair": [1, 2, 3]}, "config.pair must be"),
        ({"names": "ab"}, "config.names must be"),
        ({"names": ["a", 5]}, r"config.names\[1\] must be str, got 5"),
        ({"maybe": False}, "config.maybe must be"),
        ({"inner": {"rate": "x"}}, "config.inner.rate must be float"),
        ({"inner": [1]}, "config.inner must be Inner"),
        ({"pair": [[1] * 10**6]}, "config.pair must be"),
        ({"sise": 3}, "config: unknown field 'sise' of Config: did you mean 'size'"),
        ({"\x1b[31m": 3}, r"config: unknown field '\\+x1b\[31m' of Config"),
        ({"size": 0}, "config: size must be at least 1, got 0"),
    ],
)
def test_wrong_values_are_refused_by_name_in_one_short_line(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as no:
        config_from_dict(Config, {"size": 1} | values)

    assert str(no.value).isprintable()
    assert len(str(no.value)) < 500


def test_a_missing_field_without_a_default_is_named() -> None:
    with pytest.raises(ValueError, match="config: the field 'size' of Config is missing"):
        config_from_dict(Config, {})
