# Makefile - the menu; `make help` reads it out. configure.sh finds what it needs (build/config.mk).
#
# One makefile, wildcards, everything that is made lies under build/. Three layers: kernels/ and
# engine/ become libanimatediff, libavfilter_patch/ and FFmpeg's source become build/bin/ffmpeg.
# V=1 shows the commands.
# SPDX-License-Identifier: LGPL-2.1-or-later

BUILD  = build
TOP   := $(CURDIR)
MAKEFLAGS += --no-builtin-rules
# Independent things side by side, unless told otherwise; a make inside make has its share already.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif

all:             ## the library, animatediff-info and the patched FFmpeg (build/bin/ffmpeg)
all: lib info ffmpeg

help:            ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@echo "  ./configure.sh --help: CUDA, another FFmpeg, another place"

# Configured by itself, with the switches of the last time; not for targets that build nothing.
ifneq ($(filter-out help clean distclean check-layers check-format,$(or $(MAKECMDGOALS),all)),)
build/config.mk: configure.sh
	@./configure.sh $(CONFIGURE_ARGUMENTS) && touch $@
include build/config.mk
endif

ifeq ($(V),)
Q = @
say = @printf '  %-8s %s\n' '$(1)' '$(2)'
else
say = @:
endif

# ---- flags ---------------------------------------------------------------------------------

VERSION := $(shell awk '/define AD_VERSION_(MAJOR|MINOR|MICRO)/ { v = v d $$3; d = "." } END { print v }' engine/animatediff.h)
SO       = libanimatediff.so.$(firstword $(subst ., ,$(VERSION)))

# No -march=native: the binary runs anywhere, kernels/cpu chooses at run time. No -ffast-math:
# results do not depend on the compiler's mood.
CFLAGS   = $(if $(filter yes,$(DEBUG)),-O0,-O2) -g
AD_FLAGS = -std=c11 -D_POSIX_C_SOURCE=200809L $(CFLAGS) -Wall -Wextra -fPIC -fvisibility=hidden \
           -Ikernels -Iengine -Itests $(LIBRARY_CFLAGS) -MMD -MP
AD_LIBS  = $(LIBRARY_LIBS) -fopenmp -lm -lpthread -ldl
ifeq ($(DNNL),yes)
AD_FLAGS += -DAD_HAVE_DNNL=1
endif
ifeq ($(SANITIZE),yes)
AD_FLAGS += -fsanitize=address,undefined -fno-omit-frame-pointer
AD_LIBS  += -fsanitize=address,undefined
endif
ifeq ($(COVERAGE),yes)
$(BUILD)/engine/%.o: AD_FLAGS += -O0 --coverage
AD_LIBS  += --coverage
endif
# Where the library looks when no path is given (interface.md, section 4).
PLACES   = -DAD_DATADIR='"$(PREFIX)/share/animatediff"' -DAD_LIBDIR='"$(PREFIX)/lib/animatediff"' \
           -DAD_BUILD_DATADIR='"$(TOP)/build/share/animatediff"'

# ---- the library -----------------------------------------------------------------------------

SOURCES  := $(wildcard kernels/*.c kernels/ref/*.c kernels/null/*.c engine/*.c)
ifeq ($(DNNL),yes)
SOURCES  += $(wildcard kernels/cpu/*.c)
endif
OBJECTS   = $(SOURCES:%.c=$(BUILD)/%.o)
STATIC    = $(BUILD)/lib/libanimatediff.a
SHARED    = $(BUILD)/lib/$(SO)
HEADERS   = $(BUILD)/include/animatediff.h $(BUILD)/include/ad_status.h
PC        = $(BUILD)/lib/pkgconfig/libanimatediff.pc

lib:             ## libanimatediff alone: build/lib, build/include
lib: $(STATIC) $(SHARED) $(HEADERS) $(PC)

$(BUILD)/%.o: %.c build/config.mk
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(AD_FLAGS) -c $< -o $@

$(BUILD)/kernels/cpu/%.o: AD_FLAGS += -fopenmp

# These few know PREFIX; `make install PREFIX=...` compiles them again.
PLACED   := $(patsubst %.c,$(BUILD)/%.o,$(shell grep -lE 'AD_(BUILD_)?(DATA|LIB)DIR' $(SOURCES) /dev/null))
$(PLACED): AD_FLAGS += $(PLACES)
$(PLACED): $(BUILD)/prefix
$(BUILD)/prefix: FORCE
	@mkdir -p $(@D); echo '$(PREFIX)' | cmp -s - $@ || echo '$(PREFIX)' > $@

$(STATIC): $(OBJECTS)
	$(call say,AR,$@)
	@mkdir -p $(@D); rm -f $@
	$(Q)$(AR) rcs $@ $(OBJECTS)

$(SHARED): $(OBJECTS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -shared -Wl,-soname,$(SO) $(OBJECTS) -o $@ $(AD_LIBS)
	@ln -sf $(SO) $(@D)/libanimatediff.so

$(BUILD)/include/%.h: engine/%.h
	@mkdir -p $(@D) && cp $< $@
$(BUILD)/include/%.h: kernels/%.h
	@mkdir -p $(@D) && cp $< $@

# ---- the program that tells what files are -------------------------------------------------------

INFO = $(BUILD)/bin/animatediff-info

info:            ## build/bin/animatediff-info: what a file of weights is, for which option
info: $(INFO)

# It looks into the library, hence the static one.
$(INFO): $(BUILD)/engine/tools/animatediff_info.o $(STATIC)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $^ -o $@ $(AD_LIBS)

# $(call pc,PREFIX): what pkg-config tells; the private part is for those who link statically.
define pc
prefix=$(1)
Name: libanimatediff
Description: text becomes a short video clip with AnimateDiff
Version: $(VERSION)
Requires.private: jansson libutf8proc
Libs: -L$${prefix}/lib -lanimatediff
Libs.private: $(if $(filter yes,$(DNNL)),-ldnnl )-lgomp -lm -lpthread -ldl
Cflags: -I$${prefix}/include
endef

$(PC): export TEXT = $(call pc,$(abspath $(BUILD)))
$(PC): Makefile build/config.mk engine/animatediff.h
	@mkdir -p $(@D) && printf '%s\n' "$$TEXT" > $@

# ---- the CUDA backend: a shared object of its own, opened at run time --------------------------

ifeq ($(CUDA),yes)
CU        := $(filter-out %_sm90a.cu,$(wildcard kernels/cuda/*.cu))
CU_SM90A  := $(if $(filter yes,$(CUDA_SM90A)),$(wildcard kernels/cuda/*_sm90a.cu))
CU_OBJECTS = $(CU:%.cu=$(BUILD)/%.cu.o) $(CU_SM90A:%.cu=$(BUILD)/%.cu.o)
CUDA_SO    = $(if $(CU),$(BUILD)/lib/libanimatediff-cuda.so)
NVCC_FLAGS = -O3 -std=c++17 -Xcompiler -fPIC,-fvisibility=hidden,-Wall -cudart static -lineinfo \
             -Ikernels -Ikernels/cuda/device -DAD_HAVE_CUDNN=$(CUDNN) -DAD_HAVE_SM90A=$(if $(CU_SM90A),1,0)
# Plain C that both sides share; the runtime's symbols stay inside.
CU_SHARED  = $(addprefix $(BUILD)/kernels/,tensor.o base.o memory.o)

# Not a part of `make` before it has run on a GPU: where the object is, device=auto takes it.
cuda: $(CUDA_SO)

$(CU_SM90A:%.cu=$(BUILD)/%.cu.o): CUDA_FLAGS = -gencode arch=compute_90a,code=sm_90a
$(BUILD)/%.cu.o: %.cu build/config.mk
	$(call say,NVCC,$<)
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCC_FLAGS) $(CUDA_FLAGS) -MMD -MF $(@:.o=.d) -c $< -o $@

$(CUDA_SO): $(CU_OBJECTS) $(CU_SHARED)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(NVCC) -shared -cudart static $^ -o $@ $(CUDA_LIBS) -lcublasLt \
	    -Xlinker --exclude-libs,ALL
endif

cuda:            ## the CUDA backend, when configured (./configure.sh --enable-cuda)

# ---- the demo model ------------------------------------------------------------------------------

# demo/model is in the tree once it is trained. Until then: the same files with random weights.
MODEL = build/share/animatediff/model

model: $(MODEL)/model_index.json
ifneq ($(wildcard demo/model/model_index.json),)
$(MODEL)/model_index.json: demo/model/model_index.json
	@mkdir -p $(dir $(MODEL)) && rm -rf $(MODEL) && ln -s $(TOP)/demo/model $(MODEL)
else ifneq ($(wildcard tests/make_placeholder.c),)
$(MODEL)/model_index.json: $(BUILD)/tests/make_placeholder
	$(call say,MODEL,a placeholder without training)
	@mkdir -p $(dir $(MODEL)) && rm -rf $(MODEL)
	$(Q)$< $(MODEL)
else
$(MODEL)/model_index.json:
	@echo "  note: no demo model in this tree (demo/model)"
endif

demo-model:      ## train the demo model anew: hours, needs PyTorch (demo/train)
	@demo/train/run.sh

# ---- FFmpeg ----------------------------------------------------------------------------------------

PATCH   := $(wildcard libavfilter_patch/*.[ch]) libavfilter_patch/patch_ffmpeg.sh \
           libavfilter_patch/build_ffmpeg.sh libavfilter_patch/filters.texi
export SANITIZE DEBUG

ffmpeg:          ## patched FFmpeg: build/bin/ffmpeg, build/bin/ffprobe
ifeq ($(FFMPEG),yes)
ffmpeg: $(BUILD)/bin/ffmpeg model

# It is linked to the shared library: a change of the engine needs no new FFmpeg.
$(BUILD)/bin/ffmpeg: $(PATCH) $(HEADERS) $(PC) build/config.mk | $(SHARED)
	@libavfilter_patch/patch_ffmpeg.sh $(FFMPEG_SOURCE) > $(BUILD)/patch.log
	@EXTRA='$(FFMPEG_OPTIONS)' libavfilter_patch/build_ffmpeg.sh \
	    $(FFMPEG_SOURCE) $(BUILD)/ffmpeg-$(FFMPEG_VERSION) $(BUILD)/lib/pkgconfig
	@mkdir -p $(@D)
	@cp -f $(BUILD)/ffmpeg-$(FFMPEG_VERSION)/ffprobe $(@D)/ffprobe
	@cp -f $(BUILD)/ffmpeg-$(FFMPEG_VERSION)/ffmpeg $@
endif

# The other versions: build/bin/ffmpeg-5.1.9 and so on.
MATRIX = 5.1.9 7.1.5 8.1.2 9.0.2

ffmpeg-matrix:   ## build and try every FFmpeg version that can be fetched (MATRIX="5.1.9 ...")
ffmpeg-matrix: lib model
	@for version in $(MATRIX); do \
	    source=$$(libavfilter_patch/get_ffmpeg.sh $$version $(CACHE) build/src) || \
	        { echo "skip - FFmpeg $$version: cannot be fetched"; continue; }; \
	    libavfilter_patch/patch_ffmpeg.sh $$source > $(BUILD)/patch.log && \
	    libavfilter_patch/build_ffmpeg.sh $$source $(BUILD)/ffmpeg-$$version $(BUILD)/lib/pkgconfig && \
	    mkdir -p $(BUILD)/bin && \
	    cp -f $(BUILD)/ffmpeg-$$version/ffmpeg $(BUILD)/bin/ffmpeg-$$version && \
	    cp -f $(BUILD)/ffmpeg-$$version/ffprobe $(BUILD)/bin/ffprobe-$$version || exit 1; \
	    echo "FFmpeg $$version:"; \
	    FFMPEG=$(BUILD)/bin/ffmpeg-$$version FFPROBE=$(BUILD)/bin/ffprobe-$$version tests/filter_smoke.sh || exit 1; \
	done

# ---- try it ------------------------------------------------------------------------------------------

DEMO_PROMPT = a red ball rolling left
DEMO_SEED   = 1

demo:            ## render a clip with the demo model: build/demo/demo.mp4 and demo.gif
demo: ffmpeg
	@mkdir -p $(BUILD)/demo
	@set -- $(BUILD)/bin/ffmpeg -hide_banner -nostdin -y -f lavfi -i 'animatediff=prompt=$(DEMO_PROMPT):seed=$(DEMO_SEED)' \
	    -c:v libx264 -crf 18 -pix_fmt yuv420p $(BUILD)/demo/demo.mp4 \
	    -vf 'split[a][b];[a]palettegen[p];[b][p]paletteuse' $(BUILD)/demo/demo.gif; \
	"$$@" > $(BUILD)/demo/log 2>&1 || { tail -n 5 $(BUILD)/demo/log; exit 1; }; \
	sed -n 's/^\[[^]]*animatediff[^]]*\] /  /p' $(BUILD)/demo/log; \
	printf '%s\n' "" "$(BUILD)/demo/demo.mp4" "$(BUILD)/demo/demo.gif" "" "made by:" ; \
	for word; do case $$word in *[!a-zA-Z0-9_./:=+-]*) printf "'%s' " "$$word" ;; *) printf '%s ' "$$word" ;; esac; done; echo

# ---- tests -------------------------------------------------------------------------------------------

# tests/test_x.c and tests/bench_x.c are programs of their own, make_x.c and fuzz_x.c too; what else
# is in tests/*.c goes into each of them. They see the library's insides, hence the static one.
PROGRAM_C  := $(wildcard tests/test_*.c tests/bench_*.c tests/make_*.c)
HELPER_C   := $(filter-out $(PROGRAM_C) $(wildcard tests/fuzz_*.c),$(wildcard tests/*.c))
HELPERS     = $(HELPER_C:%.c=$(BUILD)/%.o)
UNIT_TESTS  = $(patsubst tests/%.c,$(BUILD)/tests/%,$(filter tests/test_%,$(PROGRAM_C)))
BENCHES     = $(patsubst tests/%.c,$(BUILD)/tests/%,$(filter tests/bench_%,$(PROGRAM_C)))

# A program or helper that defines __wrap_f gets f wrapped: so failing allocations and reads are made.
wrap        = $(shell sed -n 's/.*\b__wrap_\([a-z_0-9]*\)\b.*/-Wl,--wrap=\1/p' $(1) $(HELPER_C) /dev/null | sort -u)

.SECONDARY:
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(HELPERS) $(STATIC)
	$(call say,LINK,$@)
	$(Q)$(CC) $(call wrap,tests/$*.c) $^ -o $@ $(AD_LIBS)

# CUDA backends that are none, for test_cuda_open: in build/tests/plugin/KIND.
FAKES = $(foreach kind,works refuses abi sizes symbol,$(BUILD)/tests/plugin/$(kind)/libanimatediff-cuda.so)
$(FAKES): tests/plugin/fake.c kernels/plugin.h kernels/backend.h build/config.mk
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(AD_FLAGS) -DFAKE_$(shell echo $(notdir $(@D)) | tr a-z A-Z) -shared $< -o $@
$(BUILD)/tests/test_cuda_open: | $(FAKES)

# The CUDA backend as plain C++ on a stand-in for the device, and the programs that run on it. Every
# access of a kernel calls a function of host_memory.cpp; the address sanitizer excludes that.
HOST      := $(BUILD)/tests/cuda_host
HOST_CU    = $(patsubst %.cu,$(HOST)/%.o,$(notdir $(filter-out %_sm90a.cu,$(wildcard kernels/cuda/*.cu))))
HOST_CPP   = $(patsubst tests/cuda_host/%.cpp,$(HOST)/%.o,$(wildcard tests/cuda_host/*.cpp))
HOST_C     = $(addprefix $(BUILD)/kernels/,tensor.o base.o memory.o)
HOST_FLAGS = -std=c++17 $(CFLAGS) -Wall -Wextra -Wno-unknown-pragmas -fPIC -fvisibility=hidden \
             -Itests/cuda_host -Ikernels -MMD -MP
ifeq ($(SANITIZE),yes)
HOST_SANE  = -fsanitize=address,undefined -fno-omit-frame-pointer
else
HOST_HOOKS = -fsanitize=thread --param tsan-instrument-func-entry-exit=0
endif
HOST_SO    = $(HOST)/libanimatediff-cuda.so
HOST_TESTS = $(addprefix $(HOST)/,faulty test_ops test_blocks test_cuda_clips bench_session \
             bench_clip make_noise) $(HOST)/test_faults

$(HOST_CU): $(HOST)/%.o: kernels/cuda/%.cu build/config.mk
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) -x c++ $(HOST_FLAGS) $(HOST_SANE) $(HOST_HOOKS) -c $< -o $@
$(HOST)/faulty.o: tests/cuda_host/faulty.cu build/config.mk
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) -x c++ $(HOST_FLAGS) $(HOST_SANE) $(HOST_HOOKS) -c $< -o $@
$(HOST_CPP): $(HOST)/%.o: tests/cuda_host/%.cpp build/config.mk
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(HOST_FLAGS) $(HOST_SANE) -c $< -o $@
$(HOST_SO): $(HOST_CU) $(HOST_CPP) $(HOST_C)
	$(call say,LINK,$@)
	$(Q)$(CXX) -shared $^ -o $@ $(HOST_SANE)
$(HOST)/faulty: $(HOST)/faulty.o $(HOST_CPP) $(HOST_C)
	$(call say,LINK,$@)
	$(Q)$(CXX) $^ -o $@ $(HOST_SANE)
$(filter-out %/faulty %/test_faults,$(HOST_TESTS)): $(HOST)/%: $(BUILD)/tests/%
	@mkdir -p $(@D) && ln -f $< $@

# Where there is no C++ compiler, tests/cuda_host.sh says that it is skipped.
cuda-host: $(if $(shell command -v $(CXX)),$(HOST_SO) $(HOST_TESTS))

test:            ## every test this machine can run; no GPU, no network needed
test: ffmpeg info unit cuda-host
	@BUILD=$(BUILD) tests/run.sh $(UNIT_TESTS) tests/cuda_host.sh tests/api.sh tests/info.sh tests/check_layers.sh tests/check_format.sh \
	    tests/patch.sh $(if $(filter yes,$(FFMPEG)),tests/filter.sh tests/readme.sh tests/judge.sh)

unit: lib info model $(UNIT_TESTS)

# Memory that is not to be had must be NULL, as without sanitizers: tests ask for too much.
asan:            ## the unit tests again under address and undefined behaviour sanitizers
	@$(MAKE) BUILD=build/asan SANITIZE=yes CFLAGS='-O1 -g' asan-run
asan-run: unit cuda-host
	@ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 \
	    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    BUILD=$(BUILD) QUICK=1 tests/run.sh $(UNIT_TESTS) tests/cuda_host.sh

# Minutes; needs nvcc but no GPU. Says so where there is none.
cuda-check:      ## does nvcc compile the CUDA backend for all architectures, as well as before?
	@BUILD=$(BUILD) tests/run.sh tests/check_cuda.sh

# libFuzzer is clang's. The loader needs no backend: no oneDNN, no OpenMP.
FUZZ_SECONDS = 60
# Inputs a second that each target must manage: a twentieth of what one idle core does.
FUZZ_TARGETS = safetensors=500 torch=200 config=200 tokenizer=20 prompt=200 adapter=30
FUZZ_FLAGS   = -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
FUZZERS      = $(foreach target,$(FUZZ_TARGETS),$(BUILD)/fuzz_$(firstword $(subst =, ,$(target))))

fuzz:            ## feed the loader FUZZ_SECONDS of odd files per target; needs clang
	@command -v clang > /dev/null || { echo "clang is needed: apt-get install clang libclang-rt-dev"; exit 1; }
	@$(MAKE) BUILD=build/fuzz CC=clang DNNL=no SANITIZE=no CFLAGS='-O1 -g $(FUZZ_FLAGS)' \
	    AD_LIBS='-ljansson -lutf8proc -lm -lpthread -ldl -fsanitize=fuzzer,address,undefined' fuzz-run
fuzz-run: $(FUZZERS)
	@tests/fuzz/run.sh $(FUZZ_SECONDS) $(BUILD) $(FUZZ_TARGETS)
$(BUILD)/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o \
        $(addprefix $(BUILD)/tests/,fuzz/fuzz.o golden.o scratch.o zips.o) $(STATIC)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ -o $@ $(AD_LIBS)

# The loader, and the tests that are about it. Only the engine is counted: kernels stay fast.
LOADER       = safetensors zip pickle pickle_cells pickle_globals torch_file tensor_file file json config \
               config_tensors recognize names lora lora_file lora_names lycoris peft motion_file adapters \
               sources weights tokenizer vocabulary utf8 prompt emphasis embedding
LOADER_TESTS = $(addprefix $(BUILD)/tests/test_,safetensors tensor_file torch_file pickle zip zip_caps \
               failure_files failure_json config loader vocabulary tokenizer prompt hostile_text \
               hostile_adapters lora_names lycoris peft motion_file wrong_kind embedding single_file model placeholder)

coverage:        ## lines of the loader that its tests run; fails under 95 % of any file
	@$(MAKE) BUILD=build/coverage COVERAGE=yes coverage-run
coverage-run: model $(LOADER_TESTS)
	@find $(BUILD) -name '*.gcda' -delete
	@BUILD=$(BUILD) tests/run.sh $(LOADER_TESTS)
	@BUILD=$(BUILD) tests/coverage.sh 95 $(LOADER:%=engine/%.c)

bench:           ## time and percent of peak per operation, for the speed log
bench: model $(BENCHES)
	@for program in $(BENCHES); do $$program || exit 1; done

golden:          ## make tests/golden anew from the reference implementation (PyTorch, diffusers)
	@python3 tests/make_golden.py

check-layers:    ## does every file include only what its layer may?
	@tests/check_layers.sh

check-format:    ## tabs, trailing blanks, long lines, line ends
	@tests/check_format.sh

# ---- elsewhere ---------------------------------------------------------------------------------------

install:         ## everything into PREFIX (configured, or PREFIX=...); DESTDIR is honoured
install: lib info model ffmpeg
	@set -e; to="$(DESTDIR)$(PREFIX)"; \
	mkdir -p "$$to/bin" "$$to/include" "$$to/lib/pkgconfig" "$$to/lib/animatediff" "$$to/share/animatediff"; \
	cp $(HEADERS) "$$to/include"; \
	cp $(STATIC) $(SHARED) "$$to/lib"; \
	install -m 755 $(INFO) "$$to/bin"; \
	ln -sf $(SO) "$$to/lib/libanimatediff.so"; \
	sed 's|^prefix=.*|prefix=$(PREFIX)|' $(PC) > "$$to/lib/pkgconfig/libanimatediff.pc"; \
	if [ -f "$(CUDA_SO)" ]; then cp $(CUDA_SO) "$$to/lib/animatediff"; fi; \
	if [ -d $(MODEL) ]; then rm -rf "$$to/share/animatediff/model"; cp -rL $(MODEL) "$$to/share/animatediff/model"; fi; \
	if [ -f $(BUILD)/bin/ffmpeg ]; then install -m 755 $(BUILD)/bin/ffmpeg $(BUILD)/bin/ffprobe "$$to/bin"; fi; \
	echo "installed in $$to"

uninstall:       ## take it out again
	@to="$(DESTDIR)$(PREFIX)"; \
	rm -f "$$to/bin/ffmpeg" "$$to/bin/ffprobe" "$$to/bin/animatediff-info" "$$to/include/animatediff.h" "$$to/include/ad_status.h" \
	    "$$to/lib/libanimatediff.a" "$$to/lib/libanimatediff.so" "$$to/lib/$(SO)" \
	    "$$to/lib/pkgconfig/libanimatediff.pc"; \
	rm -rf "$$to/lib/animatediff" "$$to/share/animatediff"

clean:           ## remove what was compiled; FFmpeg's source, objects and downloads stay
	rm -rf $(addprefix build/,kernels engine tests lib include share demo bin asan fuzz coverage prefix)

distclean:       ## remove everything, downloads too
	rm -rf build

.PHONY: all help lib info cuda cuda-host cuda-check model demo-model ffmpeg ffmpeg-matrix demo test unit \
        asan asan-run fuzz fuzz-run coverage coverage-run bench golden \
        check-layers check-format install uninstall clean distclean FORCE
FORCE:

-include $(shell find $(BUILD) -path $(BUILD)/src -prune -o -path '$(BUILD)/ffmpeg*' -prune -o -name '*.d' -print 2>/dev/null)
