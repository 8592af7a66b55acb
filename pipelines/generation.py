"""Generation of videos: the transformer generates codes, and the tokenizer decodes them."""

from collections.abc import Callable, Sequence
from typing import SupportsIndex

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from ..choices import chosen, whole_number
from ..labels import Label
from ..maskgit.seeds import sample_generators
from ..maskgit.tasks import task_named
from .fill.code_writer import CodeWriter
from .fill.joins import join_given
from .fill.record import DecodingRecord
from .fill.request import Request, check_context, common_length, gather, label_indices, repeat_each
from .fill.settings import DecodingSettings
from .fill.windows import GeneratedVideos, Window, generate_windows, plan_windows
from .media.video_like import MaskLike, VideoLike
from .output import OUTPUT_TYPES, GenerationOutput
from .saved_pipeline import SavedPipeline
from .tokenization import TokenizationPipeline


class VideoGenerationPipeline(SavedPipeline):
    """Generates codes with a transformer and decodes them to videos with a tokenizer."""

    @property
    def tokenization(self) -> TokenizationPipeline:
        """Pipeline of the same tokenizer, with `tokenize`, `detokenize` and `reconstruct` for videos and files."""
        return TokenizationPipeline(self.tokenizer)

    @torch.no_grad()
    def generate(
        self,
        num_frames: int | None = None,
        labels: Label | Sequence[Label] | None = None,
        *,
        frames: VideoLike | None = None,
        last_frames: VideoLike | None = None,
        video: VideoLike | None = None,
        mask: MaskLike | None = None,
        task: str | None = None,
        context: Float[Tensor, "*b m e"] | None = None,
        context_padding: Bool[Tensor, "*b m"] | None = None,
        num_videos_per_label: int = 1,
        overlap: int = 5,
        num_steps: int = 12,
        guidance_scale: float = 1.0,
        guidance_schedule: str = "constant",
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        order: str = "confidence",
        choice_temperature: float | None = None,
        schedule: str = "cosine",
        seed: SupportsIndex | Sequence[SupportsIndex] | None = None,
        generators: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pt",
        callback: Callable[[int, Int[Tensor, "b t h w"]], None] | None = None,
        progress: bool = True,
    ) -> GenerationOutput:
        """Generate videos, optionally conditioned on labels, on given pixels, or on embeddings such as those of a text.

        Pixels are tensors with channels first, arrays with channels last, or PIL images (see `VideoLike`), with values
        in [0, 1] or as uint8. Given pixels are returned unchanged in `.videos`. Labels, pixels and context must have
        the same batch size, or batch size 1, which is repeated for all videos.

        Args:
            num_frames: number of frames of each video; 1 generates an image. Videos that are longer than the training
                clips are generated window by window. None: the length of `video`, or of the training clips.
            labels: names or indices of labels, one or several. None: no label if pixels or a context are given, and
                otherwise one random label for all videos.
            frames: first frames of the video, of any size. The frames after them are generated.
            last_frames: last frames of the video. The frames before them are generated.
            video: video with hidden pixels, which are generated.
            mask: True where a pixel of `video` is hidden: (H, W) for all frames, (T, H, W), or (b, T, H, W).
            task: name of a task that the model was trained on, used for every window. None: the task that fits the
                known pixels of the window and the presence of a label, if the model was trained on it.
            context: embeddings (m, e) or (b, m, e), such as those of `T5TextEncoder`, if the model was trained with
                them.
            context_padding: True where `context` is padding.
            num_videos_per_label: number of videos per label or, without labels, per input.
            overlap: minimum number of earlier frames that each window after the first is conditioned on. It is
                increased to fill latent frames, and reduced to leave room for new ones.
            num_steps: number of decoding passes for each window.
            guidance_scale: scale s of classifier-free guidance, uncond + s * (cond - uncond); 1 = no guidance. The
                unconditional prediction has no label and no context, but task and known pixels.
            guidance_schedule: `constant`, or `linear` or `cosine` to increase the scale from 1 to `guidance_scale`.
            temperature: divisor of the logits. Lower values give more probable and less varied videos.
            top_k: draw only from the k most probable values of each sub-code.
            top_p: draw only from the most probable values of each sub-code whose probabilities sum to p, in (0, 1].
            order: which codes a pass settles: `confidence` (the most confident), `random`, `halton` (evenly spread), or
                `critic` (those that the critic of a model trained with one rates best; it also revises earlier codes).
            choice_temperature: scale of the random noise in the orders `confidence` (None: 8) and `critic` (None: 1).
            schedule: schedule of the number of settled codes: `cosine`, `linear`, `square`, `cubic`, `arccos` or `log`.
            seed: an integer: video i uses the random stream (seed, i), which no other video influences. Or one integer
                per video: each video is the one that a call for it alone with this seed generates. None: torch's
                global generator draws the seed.
            generators: CPU generators in place of `seed`: one per video, or one that draws a seed for each video.
            output_type: `pt` for a tensor (b, 3, T, H, W), `np` for an array (b, T, H, W, 3), `pil` for a list of PIL
                images per video.
            callback: called after each pass as `callback(step, codes)`, with the index of the pass over all windows
                and the codes of the whole videos, `maskgit.config.mask_id` where they are hidden.
            progress: whether to show a progress bar.

        Returns:
            Videos, codes and labels. If the first window starts after the first of the given `frames`, `.codes` start
            with the first frame of this window.

        Raises:
            ValueError: if an argument has a wrong type, shape or range, if arguments exclude each other, or if the
                model was not trained for them.
        """
        settings = DecodingSettings(
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            guidance_schedule=guidance_schedule,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            order=order,
            choice_temperature=choice_temperature,
            schedule=schedule,
        )
        to_output_type = chosen(OUTPUT_TYPES, output_type, "output_type")
        whole_number("num_videos_per_label", num_videos_per_label, 1)
        whole_number("overlap", overlap, 1)
        self._check_trained_for(order, task, has_label=labels is not None)
        given = gather(
            num_frames,
            frames=frames,
            last_frames=last_frames,
            video=video,
            mask=mask,
            default_frames=self.num_frames,
            default_size=self.tokenizer.config.height_width,
        )
        embeddings, padding = check_context(context, context_padding, self.maskgit.config.dim_context) or (None, None)
        indices = None if labels is None else label_indices(labels, self.labels)
        pixels_from = "video" if video is not None else "last_frames" if frames is None else "frames"
        num_rows = common_length(
            labels=1 if indices is None else len(indices),
            **{pixels_from: len(given.pixels)},
            context=1 if embeddings is None else len(embeddings),
        )

        def for_each_video(rows: Tensor) -> Tensor:
            return repeat_each(rows, num_rows, num_videos_per_label)

        pixels, known = for_each_video(given.pixels), for_each_video(given.known)

        windows = plan_windows(
            pixels.shape[2],
            num_first=given.num_first,
            window_frames=self.num_frames,
            overlap=overlap,
            stride=self.tokenizer.temporal_stride,
        )
        generators = sample_generators(len(pixels), seed, generators)
        if indices is None:
            is_free = bool(self.labels) and all(one is None for one in (context, frames, last_frames, video))
            any_label = torch.randint(len(self.labels), (), generator=generators[0]) if is_free else 0
            indices = [int(any_label) if is_free else self.maskgit.config.null_label]
        request = Request(
            pixels,
            known,
            labels=for_each_video(torch.tensor(indices, device=self.device)),
            context=None if embeddings is None else for_each_video(embeddings.to(next(self.maskgit.parameters()))),
            context_padding=None if padding is None else for_each_video(padding.to(self.device)),
            task=task,
            generators=generators,
        )
        generated, record = self._generate_windows(request, windows, settings, callback, progress)
        coded = slice(record.first_frame, None)
        videos = pixels
        videos[:, :, coded] = join_given(
            generated.videos,
            pixels[:, :, coded],
            known[:, coded],
            seams=[earlier.stop - record.first_frame for earlier in windows[:-1]],
            cell=record.cell,
        )
        names = (*self.labels, "")
        return GenerationOutput(
            to_output_type(videos), generated.codes, tuple(names[index] for index in request.labels.tolist()), record
        )

    def _generate_windows(
        self,
        request: Request,
        windows: list[Window],
        settings: DecodingSettings,
        callback: Callable[[int, Int[Tensor, "b t h w"]], None] | None,
        progress: bool,
    ) -> tuple[GeneratedVideos, DecodingRecord]:
        """Return the decoded videos and the passes that settled their codes."""
        tokenizer, (height, width) = self.tokenizer, request.pixels.shape[3:]
        start, stop = windows[0].start, windows[-1].stop
        num_passes = len(windows) * settings.num_steps
        with tqdm(total=num_passes, desc="Generating", unit="step", disable=not progress) as bar:

            def after_pass(done: int, codes: Int[Tensor, "b t h w"]) -> None:
                bar.update(done - bar.n)
                if callback is not None:
                    callback(done - 1, codes)

            grid = tokenizer.code_shape(stop - start, height, width)
            writer = CodeWriter(tokenizer, self.maskgit, request, settings, grid, after_pass)
            generated = generate_windows(tokenizer, windows, request.pixels, request.known, writer)
            bar.update(num_passes - bar.n)
        cell = (tokenizer.temporal_stride, *tokenizer.spatial_stride)
        return generated, DecodingRecord(writer.recorder.settled_after.cpu(), request.known, cell, start)

    def _check_trained_for(self, order: str, task: str | None, *, has_label: bool) -> None:
        """
        Raises:
            ValueError: if the transformer was not trained with a critic or on the task.
        """
        config = self.maskgit.config
        if order == "critic" and not config.critic:
            raise ValueError("order='critic' requires a model that was trained with a critic, got a model without one")
        if task is None:
            return
        if task_named(task).name not in config.tasks:
            trained_on = ", ".join(config.tasks) or "none"
            raise ValueError(f"task must be one that this model was trained on ({trained_on}), got {task!r}")
        if has_label and not task_named(task).uses_label:
            raise ValueError(f"the task {task!r} does not use labels; omit labels or task")
