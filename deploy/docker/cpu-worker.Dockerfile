# A Ray node without GPU: controller, learner, rollout and reward actors.
#
# Where pip's own sources have no CPU build of torch, pass the address of PyTorch's index of CPU wheels:
#   docker build -f deploy/docker/cpu-worker.Dockerfile --build-arg TORCH_INDEX=... -t sspo/cpu-worker .
FROM python:3.11-slim

# libnuma: vllm's CPU kernels. wget: the probes that KubeRay adds to Ray nodes.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 wget \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /app

ARG TORCH_INDEX=""
COPY requirements/cpu.txt requirements/
RUN pip install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements/cpu.txt)" \
    && pip install --no-deps -r requirements/cpu.txt

COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY sspo_core sspo_core
COPY services services
RUN pip install --no-deps . \
    && useradd --create-home --uid 1000 sspo \
    && install --directory --owner=sspo --group=sspo /data

USER sspo
WORKDIR /home/sspo
ENV SSPO_DATA=/data
CMD ["python", "-m", "services.controller"]
