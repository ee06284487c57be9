"""A BatchTopK crosscoder in dense autograd, written from the mathematics; it stands in for the dictionary_learning fork.

The fork is on no package index. Score of a feature: its activation times the sum over snapshots of its decoder norms;
the k · batch largest scores of a batch stay, at all snapshots. One matrix product encodes all snapshots, gradients are
clipped to norm 1, and dead features learn from the residual (AuxK, weight 1/32, dead after 10 million tokens). Its
inference threshold is followed from step 1,000 on, which is later than a benchmark trains, so there is none here.
"""

import numpy as np
import torch
from measurement import Problem, batches, main
from torch import Tensor, nn

DEAD_AFTER_TOKENS = 10_000_000
AUXILIARY_WEIGHT = 1 / 32


class DenseBatchTopK:
    """Weights encoder [snapshot · model, feature] and decoder [feature, snapshot · model], trained by torch's Adam."""

    facts = {"stands in for": "the BatchTopK crosscoder of the dictionary_learning fork, written from its mathematics"}  # noqa: RUF012

    def __init__(self, x: Tensor, problem: Problem) -> None:
        self.problem, self.batches = problem, batches(x, problem)
        width = problem.n_snapshots * problem.d_model
        head = torch.randn(problem.n_features, 1, problem.d_model)  # one direction for all snapshots to begin with
        decoder = head.expand(-1, problem.n_snapshots, -1).reshape(problem.n_features, width)
        decoder = decoder / decoder.norm(dim=1, keepdim=True)
        self.decoder, self.encoder = nn.Parameter(decoder.clone()), nn.Parameter(decoder.T.contiguous())
        self.encoder_bias, self.decoder_bias = (nn.Parameter(torch.zeros(n)) for n in (problem.n_features, width))
        self.weights = [self.encoder, self.encoder_bias, self.decoder, self.decoder_bias]
        self.optimizer = torch.optim.Adam(self.weights, lr=problem.lr)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / problem.lr_warmup_steps)
        )
        self.silent_tokens = torch.zeros(problem.n_features, dtype=torch.long)

    def norms(self) -> Tensor:
        """Return the sum of decoder norms over snapshots, [feature]."""
        shape = (self.problem.n_features, self.problem.n_snapshots, self.problem.d_model)
        return self.decoder.view(shape).norm(dim=2).sum(dim=1)

    def update(self) -> None:
        """Do one optimiser step."""
        x = next(self.batches).flatten(1)  # [token, snapshot · model]
        active = torch.relu(x @ self.encoder + self.encoder_bias)  # [token, feature]
        with torch.no_grad():
            scores = active * self.norms()
            kept = scores.flatten().topk(self.problem.k * len(x), sorted=False)
            on = torch.zeros(scores.numel(), dtype=torch.bool).scatter_(0, kept.indices, True).view_as(scores)
        code = active * on
        error = x - (code @ self.decoder + self.decoder_bias)
        loss = error.square().sum(dim=1).mean()
        self._count_silence(on)
        dead = self.silent_tokens >= DEAD_AFTER_TOKENS
        if dead.any():
            loss = loss + AUXILIARY_WEIGHT * self._auxiliary_loss(active, error.detach(), dead)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()

    def _count_silence(self, on: Tensor) -> None:
        self.silent_tokens += len(on)
        self.silent_tokens[on.any(dim=0)] = 0

    def _auxiliary_loss(self, active: Tensor, error: Tensor, dead: Tensor) -> Tensor:
        count = min(self.problem.d_model // 2, int(dead.sum()))
        best = torch.where(dead, active, 0.0).topk(count, dim=1)
        code = torch.zeros_like(active).scatter(1, best.indices, best.values)
        unexplained = (error - code @ self.decoder).square().sum(dim=1).mean()
        return unexplained / (error - error.mean(dim=0)).square().sum(dim=1).mean()

    def dictionary(self) -> dict[str, np.ndarray]:
        """Return the weights by snapshot."""
        shape = (self.problem.n_snapshots, self.problem.d_model)
        return {
            "encoder": self.encoder.detach().numpy().reshape(*shape, -1),
            "encoder_bias": self.encoder_bias.detach().numpy(),
            "decoder": self.decoder.detach().numpy().reshape(-1, *shape).transpose(1, 0, 2),
            "decoder_bias": self.decoder_bias.detach().numpy().reshape(shape),
            "gate": np.array("sum"),
        }


if __name__ == "__main__":
    main(DenseBatchTopK)
