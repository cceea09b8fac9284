# `make` alone lists what there is to make. GNU make 4.3, a POSIX shell, Python 3.11 to 3.13.
SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The first Python on PATH that is new enough; `make PYTHON=/path/to/python setup` chooses another.
IS_PYTHON := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if $$name -c '$(IS_PYTHON)' >/dev/null 2>&1; then echo $$name; break; fi; done)

VENV := .venv
DEMO_VENV := .venv-demo
BIN := $(VENV)/bin
PIP_OPTIONS := --disable-pip-version-check --quiet
DEBIAN_PACKAGES := mosquitto mosquitto-clients ffmpeg qemu-user-static debootstrap openssh-server systemd \
	gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good postgresql
HAS_RTSP := import gi; gi.require_version("GstRtspServer", "1.0")
PYTEST_OPTIONS ?=

# TensorFlow's start-up notes say nothing to a reader of test results.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help setup demo system check test test-fast demo-bundle schemas lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

# Makes the virtual environment $(1) and installs the project with the extras $(2) into it.
define install
	@if [ -z "$(PYTHON)" ]; then \
		echo "make: no Python 3.11, 3.12 or 3.13 on PATH; name one: make PYTHON=/path/to/python" >&2; exit 1; fi
	@$(PYTHON) -c '$(IS_PYTHON)' || { \
		echo "make: $(PYTHON) is not Python 3.11, 3.12 or 3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; \
		exit 1; }
	@echo "installing into $(1) (see constraints.txt for the versions)"
	@[ -x $(1)/bin/python ] || $(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install $(PIP_OPTIONS) -c constraints.txt -e '.[$(2)]'
	@touch $@
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call install,$(VENV),test)

$(DEMO_VENV)/.installed: pyproject.toml constraints.txt
	$(call install,$(DEMO_VENV),edge$(comma)demo)

comma := ,

setup: $(VENV)/.installed ## make .venv with everything that training and testing need

demo: $(DEMO_VENV)/.installed ## name the animals of the demo clip, over a broker on this machine
	@$(DEMO_VENV)/bin/earmark-edge demo --out out/demo

# mosquitto and debootstrap lie in /usr/sbin, which is not on every user's PATH.
system: ## install what tests want of Debian where the user may, else say what is missing
	@PATH="$$PATH:/usr/sbin:/sbin"; missing=""; \
	for tool in mosquitto mosquitto_pub ffmpeg qemu-aarch64-static debootstrap sshd systemd-analyze; do \
		command -v $$tool >/dev/null 2>&1 || missing="$$missing $$tool"; done; \
	/usr/bin/python3 -c '$(HAS_RTSP)' 2>/dev/null || missing="$$missing gst-rtsp-server"; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 \
		|| missing="$$missing postgresql"; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then as_root=""; \
	elif sudo -n true 2>/dev/null; then as_root="sudo -n"; \
	else as_root="no"; fi; \
	if [ "$$as_root" != no ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing $(DEBIAN_PACKAGES)"; \
		$$as_root apt-get update -qq || true; \
		$$as_root env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $(DEBIAN_PACKAGES) >/dev/null \
			|| echo "make: apt-get could not install them; going on without:$$missing" >&2; \
	else echo "make: going on without:$$missing (on Debian: apt-get install $(DEBIAN_PACKAGES))" >&2; fi

check: setup ## format, lint, types and the import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: setup system check ## everything that CI runs
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

test-fast: setup ## the tests that need no broker, video or training
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_OPTIONS)

demo-bundle: setup ## make models/demo anew from its recipe (some twenty minutes)
	$(BIN)/earmark-trainer run models/recipes/demo.yaml --out out/demo-bundle
	rm -rf models/demo/bundle
	mkdir -p models/demo
	cp -R out/demo-bundle/bundle out/demo-bundle/pen.mp4 out/demo-bundle/truth.json models/demo/

schemas: setup ## write docs/schemas anew from the code
	$(BIN)/earmark-deploy schemas --out docs/schemas

# One extra, because [tflite-runtime] and [edge] exclude each other.
lock: setup ## pin the versions in constraints.txt anew
	$(BIN)/python -m pip install $(PIP_OPTIONS) uv
	$(BIN)/uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --upgrade \
		--custom-compile-command "make lock" --no-emit-index-url --quiet -o constraints.txt

clean: ## remove the virtual environments, outputs and caches
	rm -rf $(VENV) $(DEMO_VENV) out build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find edge trainer deploy tests -name __pycache__ -type d -prune -exec rm -rf {} +
