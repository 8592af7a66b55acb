from magvit2_pytorch.messages import MOST_NAMES, allowed_names, printable


def test_the_nearest_name_is_suggested() -> None:
    assert allowed_names("cosin", ["cosine", "linear"]) == "did you mean 'cosine'? Allowed: cosine, linear"


def test_of_ten_thousand_names_few_are_listed() -> None:
    said = allowed_names("cat", [f"label {number}" for number in range(10_000)])

    assert said.endswith(f"and {10_000 - MOST_NAMES} more")
    assert len(said) < 1000


def test_nothing_that_a_terminal_would_obey_is_printed() -> None:
    assert printable("a\x1b[31m\nb\udcff") == "a\\x1b[31m\\nb\\udcff"
    assert printable("é 日本") == "é 日本"


def test_a_long_text_is_cut() -> None:
    assert printable("a" * 1000, most=10) == "aaaaaaa..."
