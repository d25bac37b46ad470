#!/bin/sh
# Every row of docs/performance.md that needs a GPU, as Markdown, in less than 10 minutes:
#
#     tests/bench/gpu.sh [FILE]        on the first CUDA device; the tables go to FILE as well (gpu.md)
#
# SMALL=1 tries the same commands on a CPU with small models.
set -eu
cd "$(dirname "$0")/../.."
out=${1:-gpu.md}
python=${PYTHON:-python}
if [ -n "${SMALL:-}" ]; then
    step="--widths 32 32 64 64 --size 64 --repeats 1"
    cache="--widths 32 32 64 64 --size 64 --steps 8 --repeats 1"
    clip="--small --size 64 --steps 8 --repeats 1"
    long="--widths 32 32 64 64 --size 64 --frames 32 --memory-frames 32 --repeats 1"
else
    step="--device cuda"
    cache="--device cuda --size 512"
    clip="--device cuda"
    long="--device cuda --widths 320 640 1280 1280 --size 512 --frames 64 --memory-frames 128 --repeats 2"
fi

# Prints a section: its title, the command, and what the command prints.
section() {
    title=$1
    shift
    printf '\n## %s\n\n    python %s\n\n' "$title" "$*"
    "$python" -W ignore "$@" 2>/dev/null || printf 'This failed: run the command by itself.\n'
}

{
    date -u +%Y-%m-%d
    # shellcheck disable=SC2086  # options are words
    {
        section "One step" tests/bench/bench_step.py $step
        section "The step cache" tests/bench/bench_cache.py $cache
        section "A whole clip" tests/bench/bench_clip.py $clip
        section "Long clips" tests/bench/bench_long.py $long
        section "Memory, counted" tests/bench/bench_memory.py
    }
} | tee "$out"
