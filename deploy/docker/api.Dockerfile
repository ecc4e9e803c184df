# The control plane: API and grader service. No torch, no ray, no vllm.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /app

COPY requirements/api.txt requirements/
RUN pip install --no-deps -r requirements/api.txt

COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY sspo_core sspo_core
COPY services services
RUN pip install --no-deps . \
    && useradd --create-home --uid 1000 sspo \
    && install --directory --owner=sspo --group=sspo /data

USER sspo
WORKDIR /home/sspo
ENV SSPO_DATA=/data SSPO_HOST=0.0.0.0 SSPO_PORT=8000
EXPOSE 8000
CMD ["python", "-m", "services.api"]
