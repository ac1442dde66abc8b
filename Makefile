PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: install demo test test-all test-ffmpegs test-versions test-pythons check cover soak fuzz build docs bench bench-quick bench-defaults bench-step panel screens captions commands clean

FUZZ_SECONDS ?= 600

# the oldest and the newest; each is an interpreter on PATH, with ensurepip
PYTHONS ?= python3.10 python3.14

# what is compiled is kept, for all the processes that tests start
unexport PYTHONDONTWRITEBYTECODE

PYTEST := $(BIN)/python -m pytest
# a third worker for two cores: many tests wait
PARALLEL := -n 3 --dist worksteal

# torch first, and in the version of constraints.txt, so that nothing draws in another build of it
.venv/.torch:
	$(PYTHON) -m venv .venv
	$(INSTALL) torch
	@touch $@

.venv/.examples: .venv/.torch pyproject.toml constraints.txt
	$(INSTALL) --editable ".[examples]"
	@touch $@

.venv/.dev: .venv/.torch pyproject.toml constraints.txt
	$(INSTALL) --editable ".[dev]"
	@touch $@ .venv/.examples

# FFmpeg 4.2 and 7.0
.venv/.ffmpegs: .venv/.dev
	for wheel in 0.4.9 0.6.0; do \
		$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .venv/ffmpegs/$$wheel \
			imageio-ffmpeg==$$wheel || exit 1; \
	done
	@touch $@

# what the core of the tests needs
CORE := --editable ".[examples,web,tensorboard,wandb,colormap]" pytest pytest-timeout pytest-xdist hypothesis selenium \
	hatchling setuptools hydra-core vmas

# oldest: the lowest versions of everything, with the oldest TorchRL; between: a TorchRL in between
.venvs/.%: pyproject.toml tests/%.txt
	$(PYTHON) -m venv .venvs/$*
	.venvs/$*/bin/pip install --quiet --disable-pip-version-check --constraint tests/$*.txt torch
	.venvs/$*/bin/pip install --quiet --disable-pip-version-check --constraint tests/$*.txt $(CORE)
	@touch $@

# another Python takes other versions of some packages: the newest that it has wheels of
.venvs/.python%: pyproject.toml tests/pythons.txt
	python$* -m venv .venvs/python$*
	.venvs/python$*/bin/pip install --quiet --disable-pip-version-check --upgrade pip
	.venvs/python$*/bin/pip install --quiet --disable-pip-version-check --constraint tests/pythons.txt torch
	.venvs/python$*/bin/pip install --quiet --disable-pip-version-check --constraint tests/pythons.txt $(CORE)
	@touch $@

# BenchMARL asks for the oldest TorchRL, and for torchvision, which it does not need here
.venvs/.benchmarl: .venvs/.oldest
	.venvs/oldest/bin/pip install --quiet --disable-pip-version-check --no-deps benchmarl==1.5.2
	@touch $@

.venv/.bench: .venv/.torch pyproject.toml constraints.txt
	$(INSTALL) --editable ".[bench]"
	# LeRobot asks for an old torch and for much that its encoder of videos does not use
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps lerobot==0.4.4
	@touch $@

.venv/.fuzz: .venv/.dev
	$(INSTALL) --editable ".[fuzz]"
	@mkdir -p dist/corpus
	@touch $@

.venv/.docs: .venv/.torch pyproject.toml constraints.txt
	$(INSTALL) --editable ".[docs]"
	@touch $@

install: .venv/.dev  ## everything that developing needs

demo: .venv/.examples  ## record a game of Atari
	$(BIN)/python examples/atari.py

test: .venv/.dev  ## the tests but the long ones; VIDREC_REQUIRE_ALL=1 lets none skip
	$(PYTEST) $(PARALLEL) -m "not long"

test-all: .venv/.dev  ## all tests, with full products, 100 kills and 10,000 clips
	VIDREC_KILLS=100 VIDREC_CLIPS=10000 $(PYTEST) $(PARALLEL)

check: .venv/.dev  ## lint, format, types, and the contract between the folders
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	for version in 3.10 3.14; do $(BIN)/mypy --python-version $$version || exit 1; done
	$(BIN)/lint-imports

cover: .venv/.dev  ## which lines and branches the tests run; fails below 95 %
	$(PYTEST) $(PARALLEL) -q --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

FFMPEG_TESTS := tests/test_encoder.py tests/test_ffmpeg.py tests/test_clip.py tests/test_repair.py \
	tests/test_metadata.py tests/test_compare.py

test-ffmpegs: .venv/.ffmpegs  ## the tests of what FFmpeg does, with the oldest FFmpeg and one in between
	$(PYTEST) $(PARALLEL) -q tests/test_ffmpeg_versions.py
	for ffmpeg in $(CURDIR)/.venv/ffmpegs/*/imageio_ffmpeg/binaries/ffmpeg-*; do \
		FFMPEG_BINARY=$$ffmpeg $(PYTEST) $(PARALLEL) -q -m "not long" $(FFMPEG_TESTS) || exit 1; \
	done

CORE_TESTS := tests/test_dropin.py tests/test_recorder.py tests/test_obs.py tests/test_envs.py tests/test_placement.py \
	tests/test_datasets.py tests/test_csv.py tests/test_tee.py tests/test_tensorboard.py tests/test_wandb.py \
	tests/test_compat.py tests/test_compile.py tests/test_captions.py tests/test_looks.py tests/test_gallery.py \
	tests/test_watch.py

test-versions: .venvs/.oldest .venvs/.between .venvs/.benchmarl  ## the core of the tests with the lowest versions of everything, and others
	# what packages of different ages warn each other of is not ours
	for versions in oldest between; do \
		.venvs/$$versions/bin/python -m pytest $(PARALLEL) -q -W ignore -m "not long" $(CORE_TESTS) || exit 1; \
	done
	.venvs/oldest/bin/python -m pytest -q -W ignore tests/test_benchmarl.py

test-pythons: $(addprefix .venvs/.,$(PYTHONS))  ## the core of the tests, and what FFmpeg does, with other Pythons
	for python in $(PYTHONS); do \
		.venvs/$$python/bin/python -m pytest $(PARALLEL) -q -W ignore -m "not long" $(CORE_TESTS) $(FFMPEG_TESTS) || exit 1; \
	done

soak: .venv/.dev  ## the tests of what may go wrong, with 100 kills and 10,000 clips
	VIDREC_KILLS=100 VIDREC_CLIPS=10000 $(PYTEST) $(PARALLEL) tests/test_faults.py

fuzz: .venv/.fuzz  ## random bytes as calls of the recorder, led by the lines that they reach
	$(BIN)/python tests/fuzz/fuzz_recorder.py -max_total_time=$(FUZZ_SECONDS) -max_len=400 dist/corpus tests/fuzz/seeds

build: .venv/.dev  ## the wheel, installed alone and tried out
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	dist/venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	cd dist && venv/bin/python -W error -c "import torch; from vidrec import CSVLogger; \
	print(CSVLogger('smoke').log_video('video', torch.rand(1, 9, 3, 64, 64)))"

docs: .venv/.docs  ## the pages and the API as a site, in dist/site; fails at a warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: .venv/.bench  ## side by side with all peers, into benchmarks/RESULTS.md; needs the system's ffmpeg libraries
	$(BIN)/python benchmarks/bench.py

bench-quick: .venv/.bench  ## a part of it, in two minutes; writes nothing
	$(BIN)/python benchmarks/bench.py --quick

bench-defaults: .venv/.bench  ## what the defaults of mp4 cost and give; plays them in Chromium and Firefox, if installed
	$(BIN)/python -W ignore benchmarks/bench_defaults.py

bench-step: .venv/.dev  ## what a step costs the training process, beside TorchRL's recorder
	$(BIN)/python -W ignore benchmarks/bench_step.py

panel: .venv/.dev  ## take the screenshot of TensorBoard in docs/loggers.md again; needs Chromium and its driver
	VIDREC_SAVE_PANEL=$(CURDIR)/docs/tensorboard.png $(PYTEST) -q tests/test_browser.py -k mspacman

screens: .venv/.dev  ## take the screenshots of docs/looking.md again; needs Chromium and its driver
	VIDREC_SAVE_SCREENS=$(CURDIR)/docs $(PYTEST) -q tests/test_gallery.py tests/test_watch.py -k test_a_training

captions: .venv/.examples  ## record the GIF of README.md again, with examples/captions.py
	folder=$$(mktemp -d) && cd $$folder && $(CURDIR)/$(BIN)/python $(CURDIR)/examples/captions.py && \
		mv videos/captions/videos/pong_0.gif $(CURDIR)/docs/captions.gif

commands: .venv/.dev  ## run the commands of docs/cli.md again, and write there what they print
	VIDREC_SAVE_OUTPUT=1 $(PYTEST) -q tests/test_listing.py -k on_the_page

clean:
	rm -rf .venv .venvs dist
