# Each target does its own set-up: Debian packages (with sudo when not root), then a virtual environment in .venv.

PYTHON := .venv/bin/python
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

RUN_PACKAGES := python3-venv qemu-system-x86 qemu-utils
TEST_PACKAGES := socat systemd libvirt-clients zsh fish groff-base
BENCH_PACKAGES := libvirt-daemon-system python3-libvirt

.PHONY: demo test benchmarks run-packages test-packages bench-packages check regenerate clean

demo: run-packages .venv/installed
	$(PYTHON) -m tests.end_to_end.demo

test: run-packages test-packages .venv/installed
	$(PYTHON) -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

benchmarks: run-packages bench-packages .venv/installed
	$(PYTHON) -m tests.benchmarks

# What CI and reviewers want to know in seconds.
check: .venv/installed
	.venv/bin/ruff check
	.venv/bin/mypy

# Exported files: schemas, the OpenRPC document, generated documentation, man pages.
regenerate: .venv/installed
	$(PYTHON) -m tests.support.regenerate

.venv/installed: pyproject.toml
	@python3 -m venv .venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

define ensure-packages
	@missing=""; for package in $(1); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  $(SUDO) apt-get update -qq && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

run-packages:
	$(call ensure-packages,$(RUN_PACKAGES))

test-packages:
	$(call ensure-packages,$(TEST_PACKAGES))

bench-packages:
	$(call ensure-packages,$(BENCH_PACKAGES))

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
