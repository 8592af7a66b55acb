"""Generation: the masked transformer writes codes, the tokenizer draws them."""

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
from .fill.windows import Drawing, Window, draw_windows, plan_windows
from .media.video_like import MaskLike, VideoLike
from .output import OUTPUT_TYPES, GenerationOutput
from .saved_pipeline import SavedPipeline
from .tokenization import TokenizationPipeline


class VideoGenerationPipeline(SavedPipeline):
    """Both halves of the model and the names of its labels, from one folder.

    The folder holds `model_index.json`, `tokenizer/`, `maskgit/` and model cards.
    """

    @property
    def tokenization(self) -> TokenizationPipeline:
        """Pipeline of the tokenizer alone: `tokenize`, `detokenize` and `reconstruct` whole videos and files."""
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
        """One video for each label, or for each video that something is given of.

        Pixels are taken in every form that `VideoLike` names: tensors with channels first or arrays with channels last,
        floating point in [0, 1] or bytes in 0...255, or pictures of PIL; one, or a batch. They come
        back unchanged in `.videos`. Of labels, pixels and contexts there may be one, which goes with all of the others,
        or as many as of the others.

        Args:
            num_frames: any number; 1 makes an image. More than the model was trained on are made window by window,
                each of which continues the one before. By default as many as the model was trained on, or those of
                `video`.
            labels: names or indices, one or several. Without any the videos are of none where pixels or a context are
                given, else of one drawn at random.
            frames: the first frames, to predict the others from; of any size. (Where they end within a latent frame,
                the first few are not coded: `.codes` begin with the first latent frame that is needed.)
            last_frames: the last frames.
            video: of which `mask` hides a part, to be filled in; it says how many frames there are.
            mask: True where a pixel of `video` is hidden; of all its frames, or one mask for all.
            task: one of those that the model was trained on, for every window; by default the one that fits what is
                known of each window and whether there is a label, or none.
            context: embeddings (b, m, e) or (m, e) for a model that was trained with some, such as of a text.
            context_padding: True where `context` holds no embedding.
            num_videos_per_label: videos for each label, or for each video that something is given of.
            overlap: frames before it that a window sees, at least; as many as fill latent frames and leave room.
            num_steps: passes through the transformer for each window.
            guidance_scale: how far to go from the prediction without label and context to that with them, and beyond;
                1 is none. What is known of the pixels, and the task, are told to both.
            guidance_schedule: `constant`, or `linear` or `cosine`: rising from 1 to the scale.
            temperature: divides the logits; less than 1 is safer, more is wilder.
            top_k: draw from so many of the likeliest sub-codes only.
            top_p: draw from the likeliest sub-codes only that together have this probability, in (0, 1].
            order: which codes are settled first: `confidence` (the surest), `random`, `halton` (evenly spread), or
                `critic` (by the judgement of a model trained with a critic, which also takes settled ones back).
            choice_temperature: how much chance there is in the orders by confidence (by default 8) and by critic (1).
            schedule: how many codes are settled in each pass: `cosine`, `linear`, `square`, `cubic`, `arccos`, `log`.
            seed: an integer, with which video i draws from (seed, i); or one for each video, each then being what it is
                in a call of its own with that integer. A video does not depend on those beside it.
            generators: on the CPU, in place of a seed: one for each video, or one that gives each a seed.
            output_type: `pt` for a tensor b 3 T H W, `np` for an array b T H W 3, `pil` for a list of frames for each
                video.
            callback: is called after each pass with its number, over all windows, and the codes of the whole videos,
                the model's `mask_id` where they are still hidden.
            progress: show a progress bar.

        Raises:
            ValueError: an argument out of range or of wrong type or shape, some that do not go together, or something
                that the model was not trained for; in words.
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
        in_form_asked = chosen(OUTPUT_TYPES, output_type, "output_type")
        whole_number("num_videos_per_label", num_videos_per_label, 1)
        whole_number("overlap", overlap, 1)
        if num_frames is not None:
            whole_number("num_frames", num_frames, 1)
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
        told = check_context(context, context_padding, self.maskgit.config.dim_context)
        indices = None if labels is None else label_indices(labels, self.labels)
        num_rows = common_length(
            labels=1 if indices is None else len(indices),
            videos=len(given.pixels),
            contexts=1 if told is None else len(told.embeddings),
        )
        pixels, known = (repeat_each(rows, num_rows, num_videos_per_label) for rows in (given.pixels, given.known))

        windows = plan_windows(
            pixels.shape[2],
            num_first=given.num_first,
            window_frames=self.num_frames,
            overlap=overlap,
            stride=self.tokenizer.temporal_stride,
        )
        chance = sample_generators(len(pixels), seed, generators)
        if indices is None:
            is_free = bool(self.labels) and told is None and frames is last_frames is video is None
            any_label = torch.randint(len(self.labels), (), generator=chance[0]) if is_free else 0
            indices = [int(any_label) if is_free else self.maskgit.config.null_label]
        weight = next(self.maskgit.parameters())
        request = Request(
            pixels,
            known,
            labels=repeat_each(torch.tensor(indices, device=self.device), num_rows, num_videos_per_label),
            context=told and repeat_each(told.embeddings.to(weight), num_rows, num_videos_per_label),
            context_padding=told and repeat_each(told.padding.to(self.device), num_rows, num_videos_per_label),
            task=task,
            generators=chance,
        )
        drawing, record = self._draw(request, windows, settings, callback, progress)
        coded = slice(record.first_frame, None)
        videos = pixels
        videos[:, :, coded] = join_given(
            drawing.videos,
            pixels[:, :, coded],
            known[:, coded],
            seams=[earlier.stop - record.first_frame for earlier in windows[:-1]],
            cell=record.cell,
        )
        names = (*self.labels, "")
        return GenerationOutput(
            in_form_asked(videos), drawing.codes, tuple(names[index] for index in request.labels.tolist()), record
        )

    def _draw(
        self,
        request: Request,
        windows: list[Window],
        settings: DecodingSettings,
        callback: Callable[[int, Int[Tensor, "b t h w"]], None] | None,
        progress: bool,
    ) -> tuple[Drawing, DecodingRecord]:
        """The decoded videos, and how they came about."""
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
            drawing = draw_windows(tokenizer, windows, request.pixels, request.known, writer)
            bar.update(num_passes - bar.n)
        cell = (tokenizer.temporal_stride, *tokenizer.spatial_stride)
        return drawing, DecodingRecord(writer.recorder.settled_after.cpu(), request.known, cell, start)

    def _check_trained_for(self, order: str, task: str | None, *, has_label: bool) -> None:
        """
        Raises:
            ValueError: the transformer was not trained for what is asked of it.
        """
        config = self.maskgit.config
        if order == "critic" and not config.critic:
            raise ValueError("the order critic needs a model trained with a critic, but its config has critic=False")
        if task is None:
            return
        if task_named(task).name not in config.tasks:
            trained_on = f"the tasks {', '.join(config.tasks)}" if config.tasks else "no tasks"
            raise ValueError(f"this model was not trained on the task {task!r}, but on {trained_on}")
        if has_label and not task_named(task).uses_label:
            raise ValueError(f"the task {task!r} is told no label: leave out the labels, or the task")
