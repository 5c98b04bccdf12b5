# `make demo` and `make test` do everything on a fresh Debian 12 machine, as root or with sudo.
# `make check` needs no virtual node and takes minutes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/pip --quiet --disable-pip-version-check
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --no-header
BENCH := .venv-bench
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

LAB_PACKAGES := qemu-system-x86 qemu-utils mmdebstrap e2fsprogs dpkg-dev apt-utils uidmap \
  openssh-client
# A real sshd, a second shell, what the rules of a network namespace are made with, and what makes
# packages for nodes with dnf and zypper.
TEST_PACKAGES := $(LAB_PACKAGES) openssh-server sudo busybox iptables nftables ipset rpm createrepo-c \
  strace curl openssl

# Installs what is missing of the packages, and asks the network for nothing where nothing is.
define install
@dpkg-query -W -f='$${db:Status-Status}\n' $(1) 2>&1 | grep -qv '^installed$$' || exit 0; \
  $(SUDO) apt-get -q update && \
  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get -q -y install --no-install-recommends $(1)
endef

# What nodeprep is compared with has packages of its own, which need not get on with ours.
COMPARE := .venv-compare
COMPARE_STAMP := $(COMPARE)/.installed

END_TO_END := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo demo-switch bench bench-switch bench-forks bench-scale bench-workers test test-long \
  check fmt lock lab-packages test-packages clean

demo: $(STAMP) lab-packages
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh

demo-switch: $(STAMP) lab-packages
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh demo-switch.sh

# One job by Ansible, mitogen, pyinfra, a script and nodeprep, side by side: see bench/README.md.
bench: $(STAMP) $(COMPARE_STAMP) lab-packages
	$(BIN)/python -m bench.compare --tools $(COMPARE)

# The gap of each way to switch, measured: see bench/README.md.
bench-switch: $(STAMP) lab-packages
	$(BIN)/python bench/switch_gap.py

# The processes that a probe starts on a node, counted: see bench/README.md.
bench-forks: $(STAMP) test-packages
	PYTHONPATH=. $(BIN)/python bench/forks.py

# A whole fleet verified, simulated on loopback. `make bench-scale SCALE='100 1000'` takes other sizes.
bench-scale: $(BENCH)/.installed
	$(call install,openssh-client)
	$(BENCH)/bin/python -m bench.scale $(SCALE)

# The same through 1, 2 and 4 workers of a Dask cluster.
bench-workers: $(BENCH)/.installed
	$(call install,openssh-client)
	$(BENCH)/bin/python -m bench.workers $(WORKERS)

test: test-packages check
	$(BIN)/pytest $(END_TO_END) -m "lab and not long"

# What `make test` leaves out to keep within half an hour on two cores.
test-long: test-packages $(STAMP)
	$(BIN)/pytest $(END_TO_END) -m "lab and long"

check: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/pytest --quiet --numprocesses auto -m "not lab"

fmt: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  $(SUDO) apt-get -q update && $(SUDO) apt-get -q -y install python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# Nodeprep's own dependencies, and those of its benches.
$(BENCH)/.installed: $(STAMP) bench/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip --quiet --disable-pip-version-check install --require-hashes \
	  -r requirements.txt -r bench/requirements.txt
	@touch $@

$(COMPARE_STAMP): bench/requirements-compare.txt $(STAMP)
	$(PYTHON) -m venv $(COMPARE)
	$(COMPARE)/bin/pip --quiet --disable-pip-version-check install --require-hashes -r $<
	@touch $@

# Pins what a release is tested with, hashes and all; no index is named in it.
lock: $(STAMP)
	$(PIP) install pip-tools
	$(COMPILE) --extra dev --extra fleet --all-build-deps --output-file requirements.txt pyproject.toml
	$(COMPILE) --output-file bench/requirements.txt bench/requirements.in
	$(COMPILE) --output-file bench/requirements-compare.txt bench/requirements-compare.in

lab-packages:
	$(call install,$(LAB_PACKAGES))

test-packages:
	$(call install,$(TEST_PACKAGES))

clean:
	rm -rf $(VENV) $(BENCH) $(COMPARE) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
