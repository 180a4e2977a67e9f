"""The methods of the course in plain PyTorch, to be read: `from helper.algorithms import grpo_loss, ...`.

SFT, DPO, GRPO, PPO, reward models, LoRA, distillation, rejection sampling. Each function is one formula of a paper. The
tests hold them against the library where it has the same, and against hand-computed cases and slower code where not.
Left out on purpose: everything that makes a run large (several devices, vLLM, sharding); that is the library's part.
"""

from helper.algorithms.batches import (
    Batch,
    groups_with_spread,
    kl_in_reward,
    log_probabilities,
    reward_texts,
    sample_batch,
    sample_groups_with_spread,
)
from helper.algorithms.distillation import (
    distillation_loss,
    distillation_loss_of_batch,
    forward_kl,
    generalised_jsd,
    reverse_kl,
)
from helper.algorithms.lora import LoraLinear, add_lora, load_lora, save_lora
from helper.algorithms.losses import bradley_terry_loss, dpo_loss, dpop_loss, ranking_loss, sft_loss
from helper.algorithms.policy_gradient import (
    average,
    cispo_loss,
    clipped_surrogate,
    entropy_bonus,
    group_advantages,
    grpo_loss,
    gspo_loss,
    kl_estimate,
    leave_one_out_advantages,
)
from helper.algorithms.ppo import (
    ValueModel,
    generalised_advantages,
    ppo_policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from helper.algorithms.preference_losses import Pairs
from helper.algorithms.process_rewards import (
    learned_process_reward,
    process_reward_loss,
    step_labels,
    step_scores,
    steps_of,
)
from helper.algorithms.rejection import (
    Round,
    best_of_k,
    expected_best,
    expert_round,
    keep_verified,
    rejection_sample,
)
from helper.algorithms.responses import (
    masked_mean,
    pad_responses,
    response_log_probabilities,
    response_logits,
    sequence_log_probabilities,
    token_entropies,
    token_log_probabilities,
)
from helper.algorithms.reward_models import (
    conversation_ids,
    learned_reward,
    plackett_luce_loss,
    score_conversations,
    squared_error_loss,
)
from helper.algorithms.runs import Run, autocast
from helper.algorithms.train_grpo import grpo_update, train_grpo
from helper.algorithms.train_ppo import mix_in, ppo_update, train_ppo
from helper.algorithms.train_preferences import train_preferences
from helper.algorithms.train_process_reward_model import train_process_reward_model
from helper.algorithms.train_reward_model import train_reward_model
from helper.algorithms.train_sft import loss_of_rows, train_sft

__all__ = [
    "Batch",
    "LoraLinear",
    "Pairs",
    "Round",
    "Run",
    "ValueModel",
    "add_lora",
    "autocast",
    "average",
    "best_of_k",
    "bradley_terry_loss",
    "cispo_loss",
    "clipped_surrogate",
    "conversation_ids",
    "distillation_loss",
    "distillation_loss_of_batch",
    "dpo_loss",
    "dpop_loss",
    "expected_best",
    "expert_round",
    "forward_kl",
    "entropy_bonus",
    "generalised_advantages",
    "generalised_jsd",
    "group_advantages",
    "groups_with_spread",
    "grpo_loss",
    "grpo_update",
    "keep_verified",
    "gspo_loss",
    "kl_estimate",
    "kl_in_reward",
    "learned_process_reward",
    "learned_reward",
    "leave_one_out_advantages",
    "load_lora",
    "log_probabilities",
    "loss_of_rows",
    "masked_mean",
    "mix_in",
    "pad_responses",
    "plackett_luce_loss",
    "ppo_policy_loss",
    "ppo_update",
    "process_reward_loss",
    "ranking_loss",
    "rejection_sample",
    "response_log_probabilities",
    "response_logits",
    "reverse_kl",
    "reward_texts",
    "sample_batch",
    "sample_groups_with_spread",
    "save_lora",
    "score_conversations",
    "sequence_log_probabilities",
    "sft_loss",
    "squared_error_loss",
    "step_labels",
    "step_scores",
    "steps_of",
    "token_entropies",
    "token_log_probabilities",
    "token_rewards",
    "train_grpo",
    "train_ppo",
    "train_preferences",
    "train_process_reward_model",
    "train_reward_model",
    "train_sft",
    "value_loss",
    "whiten",
]
