# The exporter of the local image source: Debian's own PyTorch, torchvision and ONNX, built for the CPU.
# It runs seed_weights.py, export_onnx.py and reference.py, which are mounted when a container starts.
# libturbojpeg says what Pillow's libjpeg keeps to itself: that a JPEG lacks data.
# Debian's packages rather than PyPI's torch: that one is the CUDA build, several GB of it.
#
# Context: this file and ca-bundle.crt (the host's CA certificates; may be empty).
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# Certificates for the time of the build alone: a host behind a TLS-inspecting proxy needs its own.
COPY ca-bundle.crt /tmp/build/ca-bundle.crt

RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    if [ -s /tmp/build/ca-bundle.crt ]; then \
        echo 'Acquire::https::CAInfo "/tmp/build/ca-bundle.crt";' >/etc/apt/apt.conf.d/00build; \
    fi; \
    apt-get update; \
    apt-get install -y --no-install-recommends \
        libturbojpeg0 \
        python3 \
        python3-onnx \
        python3-pil \
        python3-torch \
        python3-torchvision; \
    apt-get clean; \
    rm -rf /tmp/build /etc/apt/apt.conf.d/00build /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old \
        /var/cache/ldconfig/aux-cache /var/log/*.log /var/log/apt /usr/share/man; \
    find /usr/share/doc -type f ! -name copyright -delete

# Imported once, so that an image without a working PyTorch is never tagged.
# The resolved versions are facts of every step that runs here.
RUN set -eu; \
    python3 -B -c 'import ctypes, onnx, PIL, torch, torchvision; ctypes.CDLL("libturbojpeg.so.0")'; \
    mkdir -p /usr/share/dalirun; \
    dpkg-query -W -f '${Package} ${Version}\n' | LC_ALL=C sort >/usr/share/dalirun/packages

CMD ["python3"]
