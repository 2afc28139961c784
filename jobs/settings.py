"""What the jobs room reads from the environment."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from agent.evaluation.refresh_rule import RefreshRuleConfig
from agent.evaluation.trial import HOLD_BACK, TRIAL, TrialConfig
from store.encoders.backends import BUNDLED
from store.pool.file import BaseUrl
from store.retention import RetentionConfig
from store.schedule import HOW_TO_WRITE, checked
from store.settings import AbsolutePath, StoreSettings
from store.trials import TrialPlan

Schedule = Annotated[str, AfterValidator(checked)]
_KEPT = RetentionConfig()


class JobSettings(StoreSettings):
    """Settings of the jobs.

    Parameters
    ----------
    encoder
        The bundled encoder, or a sentence-transformers name or folder.
    encoder_threads
        Threads of one encoding call; keep at 1 where a server runs beside.
    pool
        The pool file; None for the packaged one.
    pool_watch
        Whether a running server takes over changes of the pool file.
    data
        Folder of benchmark data.
    refresh_schedule
        When a refresh runs by the clock, see `store.schedule`; it does something only where there is anything new.
    refresh_growth
        New feedback rows that call a refresh early, as a share of the scored prompts known before, see `refresh_reason`.
    refresh_min_feedback
        The fewest new feedback rows that do. 0: nothing calls a refresh early, neither changes of models nor outliers.
    refresh_cooldown_s
        No early refresh sooner than this after the last one ended.
    retention_schedule
        When the job runs that deletes what the settings below do not keep, see `store.retention.Retention`.
    retention_decisions, retention_decision_days
        The latest decisions without feedback that are kept, and for how many days. 0: no limit; so of feedback.
    retention_feedback, retention_feedback_days
        The latest rows of feedback that are kept, and for how many days; with their decisions.
    retention_rejected, retention_retired
        The latest rejected snapshots, and former champions, that keep their weights; the champion's parent always does.
    retention_history_days
        For how many days runs of jobs, and reports of rejected snapshots, are listed. 0: no limit.
    trial_share
        Of the requests on which a challenger on trial would choose otherwise, those decided by a coin; 0: no trials.
    hold_back_share
        The same of a new champion and its predecessor; 0: no hold-back, and no champion is demoted automatically.
    trial_max_scored, hold_back_max_scored
        Scored requests, of those on which the two differ, after which a trial ends.
    trial_max_decisions, trial_max_days
        A trial or hold-back also ends after so many requests on which the two differ, scored or not, and so many days.
    trial_max_regret, hold_back_max_regret
        And when it was expected to have cost so much quality, summed over its requests.
    join_probes
        Prompts that a model answers when it joins the pool, before requests explore it; 0: none.
    join_max_tokens
        Longest answer to a probe, in tokens, thinking included.
    judge
        Who scores answers to probes: names of models of the pool, separated by commas, each a judge; ``auto``: the model
        that the champion estimates highest; ``off``: nobody, and no probes are made.
    judge_url, judge_api_key_env, judge_price_input, judge_price_output
        An endpoint outside the pool at which ``judge`` names models, the variable that holds its key, and USD per million
        tokens, where they are not published.
    judge_schedule
        When answers to requests are judged, where ``judge_daily_usd`` allows it.
    judge_keep_hours
        For how long an answer waits to be judged; then it is deleted.
    join_review_schedule
        When models on trial are looked at, to be adopted or declined.
    join_budget_usd, join_max_calls
        Most that one model's joining may spend on calls.
    join_timeout_s
        Longest wait for an answer.
    join_calls_per_minute
        Most calls a minute to one endpoint.
    seed
        Of everything random in a job.
    """

    encoder: str = BUNDLED
    encoder_threads: int = Field(
        default_factory=lambda: min(2, os.cpu_count() or 1), ge=1, le=256, description="a whole number from 1 to 256"
    )
    pool: AbsolutePath | None = None
    pool_watch: bool = Field(default=True, description="true or false")
    data: AbsolutePath = Path("../shared/data")
    refresh_schedule: Schedule = Field(default="interval: 6h", description=HOW_TO_WRITE)
    refresh_growth: float = Field(
        default=RefreshRuleConfig().growth, ge=0.01, le=100, description="a number from 0.01 to 100"
    )
    refresh_min_feedback: int = Field(
        default=RefreshRuleConfig().least, ge=0, description="a whole number of at least 0"
    )
    refresh_cooldown_s: float = Field(default=60.0, ge=0, description="a number of at least 0")
    retention_schedule: Schedule = Field(default="interval: 1h", description=HOW_TO_WRITE)
    retention_decisions: int = Field(default=_KEPT.decisions, ge=0, description="a whole number of at least 0")
    retention_decision_days: float = Field(default=_KEPT.decision_days, ge=0, description="a number of at least 0")
    retention_feedback: int = Field(default=_KEPT.feedback, ge=0, description="a whole number of at least 0")
    retention_feedback_days: float = Field(default=_KEPT.feedback_days, ge=0, description="a number of at least 0")
    retention_rejected: int = Field(default=_KEPT.rejected, ge=0, description="a whole number of at least 0")
    retention_retired: int = Field(default=_KEPT.retired, ge=0, description="a whole number of at least 0")
    retention_history_days: float = Field(default=_KEPT.history_days, ge=0, description="a number of at least 0")
    trial_share: float = Field(default=TRIAL.share, ge=0, le=1, description="a number from 0 to 1")
    hold_back_share: float = Field(default=HOLD_BACK.share, ge=0, le=1, description="a number from 0 to 1")
    trial_max_scored: float = Field(default=TRIAL.most, ge=100, le=1e6, description="a number from 100 to 1,000,000")
    hold_back_max_scored: float = Field(
        default=HOLD_BACK.most, ge=100, le=1e6, description="a number from 100 to 1,000,000"
    )
    trial_max_decisions: int = Field(default=TRIAL.most_decisions, ge=1, description="a whole number above 0")
    trial_max_days: float = Field(default=14.0, gt=0, le=3650, description="a number above 0, at most 3650")
    trial_max_regret: float = Field(default=TRIAL.max_regret, gt=0, allow_inf_nan=False, description="a number above 0")
    hold_back_max_regret: float = Field(
        default=HOLD_BACK.max_regret, gt=0, allow_inf_nan=False, description="a number above 0"
    )
    join_probes: int = Field(default=30, ge=0, le=1000, description="a whole number from 0 to 1000")
    join_max_tokens: int = Field(default=1500, ge=16, le=100_000, description="a whole number from 16 to 100,000")
    judge: str = "auto"
    judge_url: BaseUrl | None = Field(default=None, description="an http:// or https:// URL, up to /v1")
    judge_api_key_env: str | None = None
    judge_price_input: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="a number of at least 0"
    )
    judge_price_output: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="a number of at least 0"
    )
    judge_schedule: Schedule = Field(default="interval: 15m", description=HOW_TO_WRITE)
    judge_keep_hours: float = Field(
        default=_KEPT.answer_hours, gt=0, le=8760, description="a number above 0, at most 8760"
    )
    join_review_schedule: Schedule = Field(default="interval: 15m", description=HOW_TO_WRITE)
    join_budget_usd: float = Field(default=2.0, ge=0, allow_inf_nan=False, description="a number of at least 0")
    join_max_calls: int = Field(default=200, ge=0, description="a whole number of at least 0")
    join_timeout_s: float = Field(default=120.0, gt=0, allow_inf_nan=False, description="a number above 0")
    join_calls_per_minute: float = Field(default=60.0, gt=0, allow_inf_nan=False, description="a number above 0")
    seed: int = Field(default=0, ge=0, description="a whole number of at least 0")

    @property
    def retention(self) -> RetentionConfig:
        """What retention keeps."""
        return RetentionConfig(
            decisions=self.retention_decisions,
            decision_days=self.retention_decision_days,
            feedback=self.retention_feedback,
            feedback_days=self.retention_feedback_days,
            rejected=self.retention_rejected,
            retired=self.retention_retired,
            history_days=self.retention_history_days,
            answer_hours=self.judge_keep_hours,
        )

    @property
    def trial_plan(self) -> TrialPlan | None:
        """Of a challenger's trial; None where trials are off."""
        return self._plan(TRIAL, self.trial_share, self.trial_max_scored, self.trial_max_regret)

    @property
    def hold_back_plan(self) -> TrialPlan | None:
        """Of a hold-back; None where there is none."""
        return self._plan(HOLD_BACK, self.hold_back_share, self.hold_back_max_scored, self.hold_back_max_regret)

    def _plan(self, config: TrialConfig, share: float, most: float, max_regret: float) -> TrialPlan | None:
        if share == 0.0:
            return None
        fixed = replace(config, share=share, most=most, most_decisions=self.trial_max_decisions, max_regret=max_regret)
        return TrialPlan(fixed, self.trial_max_days)
