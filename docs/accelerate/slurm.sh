#!/bin/bash
# Training with Slurm that continues in a new job after the time limit:
#
#     sbatch docs/accelerate/slurm.sh tokenizer magvit2 --data.path /shared/videos --output-dir /shared/run \
#         --batch-size 256 --gradient-accumulation 1
#
# All arguments are those of `magvit2 train`. Choose the numbers below for your cluster, and activate the environment
# with the package before `sbatch`, or here.
#SBATCH --job-name=magvit2
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@600

set -u

# One task is one process of the training, without `accelerate launch`. These variables tell the processes of each other.
# LOCAL_WORLD_SIZE is not set: it would divide the cores of a process, which `--cpu-bind` has divided already.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
WORLD_SIZE=$SLURM_NTASKS
ACCELERATE_MIXED_PRECISION=bf16
export MASTER_ADDR MASTER_PORT WORLD_SIZE ACCELERATE_MIXED_PRECISION

# Ten minutes before the time limit, Slurm sends SIGTERM to this script, which passes it on to every process. The run
# saves a checkpoint and ends.
is_stopped=false
trap 'is_stopped=true; kill -TERM "$training"' TERM

# The run starts if its folder is empty, and goes on otherwise. --kill-on-bad-exit ends all processes if one has failed.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --cpu-bind=cores \
    bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID exec magvit2 train "$@"' magvit2 \
    "$@" --no-progress &
training=$!
wait "$training"
status=$?
if $is_stopped; then
    wait "$training" # the signal ended the first wait
    status=$?
fi
if $is_stopped && [ "$status" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
