# Install the wheel of dist/ into an empty environment, and run the demo with it in an empty folder.
set -eu
wheel=$(ls "$PWD"/dist/overcluster-*.whl)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
"${PYTHON:-python3}" -m venv bare
bare/bin/pip install -q --disable-pip-version-check "$wheel"
bare/bin/overcluster demo --images 20000 --out demo-run
bare/bin/python -c "import overcluster, overcluster.pca, workflow.pca; assert overcluster.pca is workflow.pca; overcluster.show_versions()"
