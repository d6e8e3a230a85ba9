#!/bin/sh
# LLaMA-Factory in an environment of its own, .venv-llamafactory: it wants other versions of trl, transformers and
# datasets than ours. Does nothing the second time.
#
#   sh tools/install_llamafactory.sh PYTHON [options for pip when it fetches torch]
set -eu
python=$1
shift
place=.venv-llamafactory
stamp=$place/.installed-0.9.5
test -e "$stamp" && exit 0
test -x $place/bin/python || "$python" -m venv $place
pip="$place/bin/python -m pip install --disable-pip-version-check --progress-bar off"
echo "Installing LLaMA-Factory into $place, once."
sh tools/install.sh $pip "$@" torch==2.13.0
sh tools/install.sh $pip torch==2.13.0 llamafactory==0.9.5
# Their usual builds are for GPUs and do not load beside a torch for processors. Text needs neither; transformers does
# without torchvision where it is not there, and LLaMA-Factory imports torchaudio whether it is used or not.
for library in torchvision torchaudio; do
    if ! $place/bin/python -c "import $library" 2>/dev/null; then
        $place/bin/python -m pip uninstall --quiet --yes $library
    fi
done
$place/bin/python -c "import torchaudio" 2>/dev/null || {
    packages=$($place/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
    mkdir "$packages/torchaudio"
    echo '"""Nothing: the build that belongs to this torch is not here, and text needs none."""' \
        >"$packages/torchaudio/__init__.py"
}
$place/bin/llamafactory-cli version >/dev/null
touch "$stamp"
