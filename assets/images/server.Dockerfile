# The server of the local image source: NVIDIA's tritonserver from the nvidia-pytriton wheel, whose Python backend
# runs the real DALI and ONNX Runtime on the CPU. It also runs serialize_dali.py.
#
# Context: this file, server-requirements.txt and ca-bundle.crt (the host's CA certificates; may be empty).
# The base must have Python 3.11: the newest that has wheels of numpy 1.26 and whose stub links Debian's libpython.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# Read when ONNX Runtime is imported, which otherwise starts to collect and send usage data; its own function to switch
# that off comes too late.
ENV ORT_DISABLE_TELEMETRY=1

# Package index to install from; pip's own default if not given.
ARG PIP_INDEX_URL

COPY ca-bundle.crt server-requirements.txt /tmp/build/

# One layer, so that pip and the wheels' unused parts cost no space.
#  - backends/python is the only folder of packages on the stub's sys.path: it runs without `site`. The .pth file
#    gives the same folder to python3, for serialize_dali.py.
#  - The libraries are found through ld.so's cache rather than LD_LIBRARY_PATH, which a caller can lose: a stub
#    without them dies while the server waits for it for ever.
#  - `pip check` comes before nvidia-pytriton's metadata: of that wheel only the server is used, so its own
#    dependencies are left out on purpose.
#  - The imports prove the packages, and compile what a model will import: at run time the root is read-only, and each
#    start would compile DALI's Python anew, which takes longer than the rest of the start.
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive HOME=/tmp/build PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1; \
    if [ -s /tmp/build/ca-bundle.crt ]; then \
        echo 'Acquire::https::CAInfo "/tmp/build/ca-bundle.crt";' >/etc/apt/apt.conf.d/00build; \
        export PIP_CERT=/tmp/build/ca-bundle.crt REQUESTS_CA_BUNDLE=/tmp/build/ca-bundle.crt; \
    fi; \
    apt-get update; \
    apt-get install -y --no-install-recommends libpython3.11 python3 python3-pip; \
    root=/opt/tritonserver; python=$root/backends/python; \
    python3 -m pip install --no-deps --require-hashes --only-binary=:all: --no-compile --target /tmp/build/site \
        -r /tmp/build/server-requirements.txt; \
    wheel=/tmp/build/site/pytriton/tritonserver; \
    mkdir -p "$root/backends"; \
    mv "$wheel/bin" "$root/bin"; \
    mv "$wheel/backends/python" "$python"; \
    mv "$wheel/python_backend_stubs/3.11/triton_python_backend_stub" "$python/"; \
    mv /tmp/build/site/nvidia_pytriton.libs "$root/lib"; \
    mv /tmp/build/site/nvidia_pytriton-*.dist-info /tmp/build/; \
    rm -r /tmp/build/site/pytriton /tmp/build/site/bin /tmp/build/site/nvidia/dali/include; \
    find /tmp/build/site/nvidia -name '*.cpython-*.so' ! -name '*.cpython-311-*' -delete; \
    mv /tmp/build/site/* "$python/"; \
    chmod 0755 "$root/bin/tritonserver" "$python/triton_python_backend_stub"; \
    ln -s "$root/bin/tritonserver" /usr/local/bin/tritonserver; \
    echo "$root/lib" >/etc/ld.so.conf.d/tritonserver.conf; \
    ldconfig; \
    echo "$python" >/usr/lib/python3/dist-packages/tritonserver.pth; \
    python3 -m pip check; \
    python3 -c 'import nvidia.dali.fn, nvidia.dali.types, nvidia.nvimgcodec, onnxruntime'; \
    mv /tmp/build/nvidia_pytriton-*.dist-info "$python/"; \
    apt-get purge -y --auto-remove python3-pip; \
    apt-get clean; \
    rm -rf /tmp/build /etc/apt/apt.conf.d/00build /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old \
        /var/cache/ldconfig/aux-cache /var/log/*.log /var/log/apt /usr/share/man; \
    find /usr/share/doc -type f ! -name copyright -delete

# An image whose binaries lack a library is never tagged.
# The resolved versions are facts of every step that runs here.
RUN set -eu; \
    cd /opt/tritonserver/backends/python; \
    if ldd /opt/tritonserver/bin/tritonserver libtriton_python.so triton_python_backend_stub | grep 'not found'; then exit 1; fi; \
    cd /; \
    mkdir -p /usr/share/dalirun; \
    { \
        dpkg-query -W -f '${Package} ${Version}\n'; \
        python3 -B -c 'import importlib.metadata as m; [print(d.metadata["Name"], d.version) for d in m.distributions(path=["/opt/tritonserver/backends/python"])]'; \
    } | LC_ALL=C sort >/usr/share/dalirun/packages

CMD ["tritonserver"]
