#!/usr/bin/env bash
# The tests on one real WebUI:
#
#   SD_WEBUI_DIR=~/stable-diffusion-webui:~/forge tests/host/run.sh A1111|Forge|reForge|Classic|Neo|ersatz smoke|all
#
# smoke is the short run (API, no trace, key frames, windows, ControlNet, page). What follows is handed to pytest.
# PYTHON names an interpreter with the test tools where that is not .venv/bin/python.
set -euo pipefail
cd "$(dirname "$0")/../.."
export SD_WEBUI_KIND=${1:-}
case ${2:-} in
  smoke) tests=tests/host/test_smoke.py ;;
  all) tests=tests/host ;;
  *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
exec "${PYTHON:-.venv/bin/python}" -m pytest -p no:cacheprovider -q -rs --durations=10 "$tests" "${@:3}"
