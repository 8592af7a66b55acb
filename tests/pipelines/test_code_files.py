import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.pipelines import TokenizationPipeline
from magvit2_pytorch.pipelines.code_files import CodesInfo, VideoCodes, code_file_writer

INFO = CodesInfo(num_frames=9, height=15, width=16, fps=24000 / 1001, codebook_size=2**10, tokenizer="0123456789abcdef")


def codes_of(codebook_size: int, *shape: int) -> VideoCodes:
    codes = torch.randint(codebook_size, shape)
    codes.view(-1)[:2] = torch.tensor([0, codebook_size - 1])
    return VideoCodes(replace(INFO, codebook_size=codebook_size), codes)


@pytest.mark.parametrize(("codebook_size", "bytes_each"), [(2**8, 1), (2**16, 2), (2**18, 4), (2**20, 4)])
@pytest.mark.parametrize("batch", [1, 3])
def test_saved_codes_are_loaded_unchanged(tmp_path: Path, codebook_size: int, bytes_each: int, batch: int) -> None:
    codes = codes_of(codebook_size, batch, 300, 4, 4)

    codes.save(tmp_path / "a.safetensors")
    loaded = VideoCodes.load(tmp_path / "a.safetensors")

    assert loaded.info == codes.info
    assert torch.equal(loaded.codes, codes.codes)
    assert loaded.codes.dtype == torch.int64
    assert loaded.shape == codes.shape == (batch, 300, 4, 4)
    assert (tmp_path / "a.safetensors").stat().st_size == 1024 + bytes_each * batch * 300 * 16


def test_safetensors_reads_the_file(tmp_path: Path) -> None:
    codes = codes_of(2**18, 1, 3, 4, 4)
    codes.save(tmp_path / "a.safetensors")

    assert torch.equal(safetensors.torch.load_file(tmp_path / "a.safetensors")["codes"].long(), codes.codes)


def test_copying_a_file_keeps_its_bytes(tmp_path: Path) -> None:
    codes_of(2**16, 1, 600, 2, 2).save(tmp_path / "a.safetensors")

    VideoCodes.load(tmp_path / "a.safetensors").save(tmp_path / "b.safetensors")

    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_joined_pieces_equal_the_codes(tmp_path: Path) -> None:
    codes = codes_of(2**16, 1, 7, 4, 4)
    codes.save(tmp_path / "a.safetensors")

    for one in (codes, VideoCodes.load(tmp_path / "a.safetensors")):
        pieces = list(one.pieces(3))

        assert [piece.shape[1] for piece in pieces] == [3, 3, 1]
        assert torch.equal(torch.cat(pieces, dim=1), codes.codes)


def test_bits_per_pixel() -> None:
    codes = VideoCodes(INFO, torch.zeros(2, 3, 4, 4, dtype=torch.long))

    assert codes.bits_per_pixel == 10 * 3 * 4 * 4 / (9 * 15 * 16)


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    codes_of(2**10, 1, 2, 4, 4).save(path)
    before = path.read_bytes()

    with pytest.raises(OSError, match="no space"):
        write_and_fail(path)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def write_and_fail(path: Path) -> None:
    with code_file_writer(path, codebook_size=2**10) as writer:
        writer.write(torch.zeros(1, 2, 4, 4, dtype=torch.long))
        raise OSError("no space left on device")


def test_pieces_of_other_shapes_are_refused(tmp_path: Path) -> None:
    for first, second in [((1, 2, 4, 4), (1, 2, 4, 5)), ((1, 2, 4, 4), (2, 2, 4, 4)), ((2, 2, 4, 4), (2, 1, 4, 4))]:
        with pytest.raises(ValueError, match=r"cannot follow"):
            write_two(tmp_path / "a.safetensors", first, second)

    assert not list(tmp_path.iterdir())


def write_two(path: Path, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with code_file_writer(path, codebook_size=2**10) as writer:
        writer.write(torch.zeros(first, dtype=torch.long))
        writer.write(torch.zeros(second, dtype=torch.long))


def test_other_files_are_refused(tmp_path: Path) -> None:
    codes = codes_of(2**10, 1, 3, 4, 4)
    path = tmp_path / "a.safetensors"
    codes.save(path)
    whole = path.read_bytes()

    with pytest.raises(ValueError, match=r"must end in \.safetensors, got .*a\.npy"):
        codes.save(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        VideoCodes.load(tmp_path / "missing.safetensors")
    for content in (b"no codes", whole[:500], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.safetensors is not a complete file of codes"):
            VideoCodes.load(path)
    path.write_bytes(whole.replace(b"magvit2 codes 1", b"magvit2 codes 9"))
    with pytest.raises(ValueError, match=r"its format is 'magvit2 codes 9', this release reads 'magvit2 codes 1'"):
        VideoCodes.load(path)
    path.write_bytes(whole.replace(b'"height": "15"', b'"height": "{}"'))
    with pytest.raises(ValueError, match=r"a\.safetensors\.height must be int"):
        VideoCodes.load(path)
    safetensors.torch.save_file({"codes": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="its format is None"):
        VideoCodes.load(path)


def test_metadata_in_the_header(tmp_path: Path) -> None:
    codes_of(2**10, 1, 3, 4, 4).save(tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])

    header = json.loads(content[8 : 8 + length])

    assert header["__metadata__"]["num_frames"] == "9"
    assert float(header["__metadata__"]["fps"]) == 24000 / 1001


def small_tokenizer(**changes) -> VideoTokenizer:
    torch.manual_seed(0)
    options = {"image_size": 16, "init_dim": 16, "layers": ("residual", "compress_space"), "codebook_size": 2**7}
    return VideoTokenizer(**options | changes)


def test_codes_of_another_tokenizer_are_refused() -> None:
    tokenizer = small_tokenizer()
    codes = codes_of(2**7, 1, 3, 4, 4)
    info = replace(codes.info, num_frames=3, height=7, width=8, tokenizer=tokenizer.fingerprint())
    ours = VideoCodes(info, codes.codes)

    ours.check(tokenizer)
    with pytest.raises(ValueError, match=r"9 frames of 7 x 8 pixels have \(9, 4, 4\) codes, got \(3, 4, 4\)"):
        VideoCodes(replace(info, num_frames=9), codes.codes).check(tokenizer)
    with pytest.raises(ValueError, match="another tokenizer"):
        codes.check(tokenizer)
    with pytest.raises(ValueError, match="codebook_size 128, this tokenizer has 256"):
        ours.check(small_tokenizer(codebook_size=2**8))


@pytest.fixture
def code_file(tmp_path: Path) -> Path:
    """File of codes that a test may damage."""
    codes_of(2**10, 1, 3, 4, 4).save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def rewrite(path: Path, codes: torch.Tensor | None = None, /, **metadata: str) -> None:
    """Replace the codes or some of the metadata of a file."""
    with safetensors.safe_open(path, framework="pt") as file:
        before = file.metadata()
        codes = file.get_tensor("codes") if codes is None else codes
    safetensors.torch.save_file({"codes": codes}, path, metadata=before | metadata)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("num_frames", "0", "num_frames must be an integer >= 1, got 0"),
        ("num_frames", "true", "num_frames must be int, got True"),
        ("num_frames", "9.0", "num_frames must be int, got 9.0"),
        ("height", "0", "height must be an integer >= 1, got 0"),
        ("width", "-16", "width must be an integer >= 1, got -16"),
        ("width", str(10**12), "too large"),
        ("fps", "0", r"fps must be in \(0, 1000\], got 0"),
        ("fps", "-25", r"fps must be in \(0, 1000\], got -25"),
        ("fps", "NaN", "fps must be float | None, got nan"),
        ("fps", "Infinity", "fps must be float | None, got inf"),
        ("codebook_size", "0", "codebook_size must be an integer >= 2, got 0"),
        ("tokenizer", "7", "tokenizer must be str, got 7"),
        ("fps", "[" * 100_000, "metadata are not JSON"),
        ("height", "", "metadata are not JSON"),
        ("depth", "1", "unknown field 'depth' of CodesInfo"),
    ],
)
def test_invalid_metadata_are_refused(code_file: Path, field: str, value: str, said: str) -> None:
    rewrite(code_file, None, **{field: value})

    with pytest.raises(ValueError, match=said):
        VideoCodes.load(code_file)


@pytest.mark.parametrize(
    "codes",
    [
        torch.zeros(1, 3, 4, 4),
        torch.zeros(1, 3, 4, 4, dtype=torch.bool),
        torch.zeros(1, 3, 4, 4, dtype=torch.int8),
        torch.zeros(1, 0, 4, 4, dtype=torch.uint8),
        torch.zeros(0, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(48, dtype=torch.uint8),
    ],
    ids=lambda codes: f"{codes.dtype} {tuple(codes.shape)}",
)
def test_other_tensors_are_refused(code_file: Path, codes: torch.Tensor) -> None:
    rewrite(code_file, codes)

    with pytest.raises(ValueError, match=r"must contain one tensor `codes` of shape \(b, t, h, w\) and type U8"):
        VideoCodes.load(code_file)


def test_a_second_tensor_is_refused(code_file: Path) -> None:
    with safetensors.safe_open(code_file, framework="pt") as file:
        tensors, metadata = {"codes": file.get_tensor("codes"), "more": torch.zeros(1)}, file.metadata()
    safetensors.torch.save_file(tensors, code_file, metadata=metadata)

    with pytest.raises(ValueError, match="must contain one tensor `codes`"):
        VideoCodes.load(code_file)


def test_a_large_header_is_not_read(code_file: Path) -> None:
    code_file.write_bytes(struct.pack("<Q", 2**25) + b"{}")
    os.truncate(code_file, 8 + 2**25)

    with pytest.raises(ValueError, match="has a header of 33,554,432 bytes, at most"):
        VideoCodes.load(code_file)


def test_codes_out_of_range_are_refused_when_they_are_decoded(code_file: Path) -> None:
    tokenizer = small_tokenizer()
    info = {"codebook_size": "128", "tokenizer": json.dumps(tokenizer.fingerprint())}
    rewrite(code_file, torch.full((1, 3, 4, 4), 128, dtype=torch.int32), num_frames="3", height="8", width="8", **info)

    with pytest.raises(ValueError, match=r"codes must be in \[0, 128\), got 128"):
        TokenizationPipeline(tokenizer).detokenize(code_file, progress=False)
