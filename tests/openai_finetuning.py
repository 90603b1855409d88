"""Fine-tuning jobs of the server of tests/openai_server.py, in the shapes of OpenAI's API; nothing is tuned."""

import json

from openai_files import ENDED, Jobs, check_model, given_file, new_id, now, status_reached
from openai_models import Refused, is_reasoning

STATUSES = ("validating_files", "queued", "running", "succeeded")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
FEWEST_LINES = 10


def start_job(state: Jobs, body: dict) -> dict:
    if not body.get("model"):
        raise Refused(400, "you must provide a model parameter", param="model")
    if not state.fine_tuning_open:
        message = "Fine-tuning is not available to this organization: the platform is being wound down."
        raise Refused(403, message, code="fine_tuning_unavailable")
    check_model(state, body["model"])
    if is_reasoning(body["model"]):
        raise Refused(400, f"Model {body['model']} is not available for fine-tuning.", param="model")
    suffix = body.get("suffix") or ""
    if len(suffix) > 64:
        raise Refused(400, "suffix: at most 64 characters", param="suffix")
    training_file = given_file(state, body, "training_file", "fine-tune")
    method = body.get("method") or {"type": "supervised", "supervised": {}}
    given = body.get("hyperparameters") or (method.get(method["type"]) or {}).get("hyperparameters") or {}
    chosen = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"} | given
    job = {"id": new_id("ftjob-"), "object": "fine_tuning.job", "model": body["model"], "created_at": now()}
    job |= {"status": STATUSES[0], "training_file": training_file, "validation_file": body.get("validation_file")}
    job |= {"hyperparameters": chosen, "method": {"type": method["type"], method["type"]: {"hyperparameters": chosen}}}
    job |= {"seed": body.get("seed") or 42, "metadata": body.get("metadata"), "user_provided_suffix": suffix or None}
    job |= {"organization_id": "org-tests", "result_files": [], "integrations": [], "estimated_finish": None}
    job |= dict.fromkeys(("fine_tuned_model", "finished_at", "trained_tokens", "error"))
    state.jobs[job["id"]] = job
    return job


def go_on_with_job(state: Jobs, job: dict) -> dict:
    if job["status"] in ENDED:
        return job
    reached = status_reached(state, job, STATUSES)
    content = state.contents[job["training_file"]]
    error = _wrong_training_file(content) if reached else None
    if STATUSES[reached] in ("running", "succeeded"):
        error = error or state.job_error
    if error:
        job.update(status="failed", finished_at=now(), error=error)
        return job
    job["status"] = STATUSES[reached]
    if job["status"] == "succeeded":
        given = job["hyperparameters"]
        epochs = 3 if given["n_epochs"] == "auto" else given["n_epochs"]
        # A token has about four bytes.
        job.update(finished_at=now(), trained_tokens=max(1, len(content) // 4) * epochs)
        name = f"ft:{job['model']}:org:{job['user_provided_suffix'] or ''}:{job['id'].removeprefix('ftjob-')[:8]}"
        job["fine_tuned_model"] = name
        job["hyperparameters"] = given | {"n_epochs": epochs}
    return job


def cancel_job(job: dict) -> dict:
    if job["status"] in ENDED:
        raise Refused(400, f"Job has already completed: {job['id']}")
    job.update(status="cancelled", finished_at=now())
    return job


def events_of(job: dict) -> list[dict]:
    """One event: the status that the job is in."""
    message = f"The job is in status {job['status']}"
    event = {"id": f"ftevent-{job['id'][6:]}", "object": "fine_tuning.job.event", "created_at": job["created_at"]}
    return [event | {"level": "info", "message": message, "data": {}, "type": "message"}]


def _wrong_training_file(content: bytes) -> dict | None:
    """Why the training data is refused, as the job's error."""
    lines = content.splitlines()
    for number, line in enumerate(lines, start=1):
        wrong = _wrong_line(line)
        if wrong:
            message = f"The job failed due to an invalid training file. Invalid file format. Line {number}: {wrong}"
            return {"code": "invalid_training_file", "message": message, "param": "training_file"}
    if len(lines) < FEWEST_LINES:
        message = f"Training file has {len(lines)} example(s), but must have at least {FEWEST_LINES} examples"
        return {"code": "invalid_n_examples", "message": message, "param": "training_file"}
    return None


def _wrong_line(line: bytes) -> str | None:
    try:
        messages = json.loads(line)["messages"]
        roles = [message["role"] for message in messages]
        contents = [message["content"] for message in messages]
    except (ValueError, KeyError, TypeError):
        return "not a chat (JSON with messages that have role and content)"
    if not set(roles) <= set(ROLES) or not all(isinstance(content, str) and content for content in contents):
        return f"a message needs a content and one of the roles {', '.join(ROLES)}"
    if roles[-1:] != ["assistant"]:
        return "the last message must be of the role assistant"
    return None
