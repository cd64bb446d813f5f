"""The text encoder: CLIP's, small, on a compact token table; first taught what captions say.

Training begins by predicting each mentioned attribute from the padding states (position p answers for group p mod 8),
so that the picture model finds every attribute readable, and in a known place, from its first step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tools.portrait import captions
from tools.portrait.pace import Average, Pace, save
from tools.portrait.paint import portrait

if TYPE_CHECKING:
    from pathlib import Path

LENGTH = 77
START, END = 49406, 49407
HIDDEN, LAYERS = 64, 4
VARIANTS = 12
GROUPS: tuple[tuple[str, ...], ...] = (
    ("background",),
    ("hair",),
    ("shirt",),
    ("skin", "gender"),
    ("style", "beard"),
    ("expression", "eyes"),
    ("eyewear", "earrings", "garment"),
    ("hat", "hat_colour"),
)
_NAMES = tuple(captions.ATTRIBUTES)
# The odd words a caption may hold that the grammar does not know.
UNKNOWN = 0


def tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer from a folder with `vocab.json` and `merges.txt`."""
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


class Table:
    """Maps the 49,408 token ids to the rows that training uses; row 0 stands for every unused token."""

    def __init__(self, tokens: CLIPTokenizer) -> None:
        self.tokens = tokens
        phrases = [*captions.words(), *captions.JUNK]
        found = sorted({i for phrase in phrases for i in tokens(phrase)["input_ids"]} - {START, END})
        self.ids = [-1, *found, START, END]
        self.row = {token: row for row, token in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def start(self) -> int:
        """The row of the start token."""
        return len(self.ids) - 2

    @property
    def end(self) -> int:
        """The row of the end token, which also pads."""
        return len(self.ids) - 1

    def rows(self, text: str) -> list[int]:
        """Rows of a caption, with start and end, padded with end to 77."""
        ids = self.tokens(text)["input_ids"][1:-1][: LENGTH - 2]
        rows = [self.start, *(self.row.get(i, UNKNOWN) for i in ids)]
        return rows + [self.end] * (LENGTH - len(rows))


def build(vocabulary: int) -> CLIPTextModel:
    """A fresh text encoder with `vocabulary` rows; hidden 64, one head."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // 64,
        max_position_embeddings=LENGTH,
        hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    model = CLIPTextModel(config)
    for name, value in model.named_parameters():
        if "embedding" in name:
            nn.init.normal_(value, std=0.3 if "token" in name else 0.1)
    return model


class Readout(nn.Module):
    """Reads attributes off the padding states; used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(HIDDEN, len(values) + 1) for name, values in captions.ATTRIBUTES.items()})

    def forward(self, hidden: Tensor, rows: Tensor, labels: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Loss and share of right answers.

        Args:
            hidden: [B, 77, 64], the encoder's output.
            rows: [B, 77], what it read.
            labels: [B, attributes]; the class that means "not said" is the last of each.
            end: The padding row.
        """
        padded = (rows == end).float()
        place = torch.arange(LENGTH, device=hidden.device) % len(GROUPS)
        losses, right = [], []
        for g, names in enumerate(GROUPS):
            mask = padded * (place == g)
            for name in names:
                index = _NAMES.index(name)
                logits = self.heads[name](hidden[:, g :: len(GROUPS)])
                target = labels[:, index, None].expand(logits.shape[:2])
                weight = mask[:, g :: len(GROUPS)]
                loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(weight)
                losses.append((loss * weight).sum() / weight.sum())
                right.append((((logits.argmax(-1) == target) * weight).sum() / weight.sum()).detach())
        return torch.stack(losses).mean(), torch.stack(right)


def prepare(path: Path, seeds: list[int], table: Table, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Captions of the portraits as rows and labels, made once and kept in a file.

    Returns:
        rows [n, variants, 77] int16 and labels [n, variants, attributes] int16.
    """
    if path.exists():
        kept = torch.load(path)
        if kept["seeds"][: len(seeds)] == seeds:
            return kept["rows"][: len(seeds)], kept["labels"][: len(seeds)]
    rng = np.random.default_rng([seed, 7])
    rows = np.zeros((len(seeds), VARIANTS, LENGTH), np.int16)
    labels = np.zeros((len(seeds), VARIANTS, len(_NAMES)), np.int16)
    for i, number in enumerate(seeds):
        p = portrait(number)
        for v in range(VARIANTS):
            said = captions.caption(p, rng)
            line = table.rows(said.text)
            if rng.random() < 0.12:
                for _ in range(int(rng.integers(1, 4))):
                    line.insert(int(rng.integers(1, line.index(table.end) + 1)), UNKNOWN)
                line = [*line[: LENGTH - 1], table.end]
            rows[i, v] = line
            for k, (name, values) in enumerate(captions.ATTRIBUTES.items()):
                labels[i, v, k] = values.index(said.said[name]) if name in said.said else len(values)
    result = torch.from_numpy(rows), torch.from_numpy(labels)
    save(path, rows=result[0], labels=result[1], seeds=seeds)
    return result


def train(folder: Path, clip: Path, seeds: list[int], *, steps: int | None, minutes: float | None, seed: int = 0) -> None:
    """Teach the encoder to say back what captions say; writes `text.pt`."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    table = Table(tokenizer(clip))
    rows, labels = prepare(folder / "captions.pt", seeds, table, seed)
    print(f"text: {len(table)} rows, {rows.shape[0] * rows.shape[1]} captions", flush=True)
    model, readout = build(len(table)), Readout()
    both = nn.ModuleList([model, readout])
    average = Average(both, 0.995)
    pace = Pace(steps, minutes)
    optimizer = torch.optim.AdamW(both.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-3)
    flat_rows, flat_labels = rows.flatten(0, 1), labels.flatten(0, 1)
    while pace.progress < 1:
        index = torch.randint(0, len(flat_rows), (96,), generator=generator)
        line, target = flat_rows[index].long(), flat_labels[index].long()
        for group in optimizer.param_groups:
            group["lr"] = pace.rate(2e-3, pace.progress)
        loss, right = readout(model(input_ids=line).last_hidden_state, line, target, table.end)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        average.update(both)
        pace.tick()
        if pace.step % 50 == 0:
            print(
                f"text step {pace.step} {100 * pace.progress:.1f}% loss {loss.item():.4f} right {right.mean():.4f} least {right.min():.4f}",
                flush=True,
            )
        if pace.step % 300 == 0 or pace.progress >= 1:
            save(folder / "text.pt", both=average.state(both), ids=table.ids, steps=pace.step)
