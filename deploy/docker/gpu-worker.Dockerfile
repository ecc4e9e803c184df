# A Ray node with GPUs: learner and rollout actors. The CUDA libraries come with the wheels, the driver from the host.
FROM python:3.11-slim

# A compiler: Triton builds its launchers on first use. wget: the probes that KubeRay adds to Ray nodes.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ wget \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /app

ARG TORCH_INDEX=""
COPY requirements/gpu.txt requirements/
RUN pip install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements/gpu.txt)" \
    && pip install --no-deps -r requirements/gpu.txt

COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY sspo_core sspo_core
COPY services services
RUN pip install --no-deps . \
    && useradd --create-home --uid 1000 sspo \
    && install --directory --owner=sspo --group=sspo /data

USER sspo
WORKDIR /home/sspo
ENV SSPO_DATA=/data NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
CMD ["ray", "--help"]
