"""What a client asked of serving and cannot have: each error with its HTTP status and the code that programs read."""

from dpo_pipeline.errors import DpoError


class RequestError(DpoError):
    """What a client asked for and cannot have. `status` is the HTTP status, `code` the machine-readable reason."""

    status = 400
    code = "invalid_request"

    def outside(self) -> str:
        return str(self)


class InvalidRequest(RequestError):
    pass


class OrderChanged(InvalidRequest):
    """What a person said yes to would be something else by now."""


class KeyRequired(RequestError):
    status = 401
    code = "invalid_api_key"


class ForeignOrigin(RequestError):
    status = 403
    code = "foreign_origin"


class RoleRequired(RequestError):
    status = 403
    code = "role_required"


class UntrustedProxy(RequestError):
    """A login of a proxy came from somewhere else."""

    status = 403
    code = "untrusted_proxy"


class BodyTooLarge(RequestError):
    status = 413
    code = "body_too_large"


class TooManyRequests(RequestError):
    status = 429
    code = "rate_limited"
    retry_after_s = 1


class TooManyWrongKeys(TooManyRequests):
    """From one address: none of its keys is looked at for a while."""

    code = "too_many_wrong_keys"

    def __init__(self, message: str, retry_after_s: int):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PagesFull(RequestError):
    """As many pages are open, or as much of them unread, as this server keeps."""

    status = 503
    code = "pages_full"
    retry_after_s = 1


class NothingToCompare(RequestError):
    """Two versions, or two samples of one, answered several drawn questions in the same words."""

    status = 503
    code = "equal_answers"
    retry_after_s = 5


class TokenRefused(RequestError):
    status = 403
    code = "token_refused"


class UnknownComparison(RequestError):
    status = 404
    code = "unknown_comparison"


class UnknownRequest(RequestError):
    status = 404
    code = "unknown_request"


class UnknownModel(RequestError):
    status = 404
    code = "model_not_found"


class NotEvaluated(RequestError):
    status = 404
    code = "not_evaluated"


class AlreadyVoted(RequestError):
    status = 409
    code = "already_voted"


class TooLate(RequestError):
    """What can be done for a while only."""

    status = 409
    code = "too_late"


class NicknameTaken(RequestError):
    status = 409
    code = "nickname_taken"


class OrderRefused(RequestError):
    status = 409
    code = "order_refused"


class ClientGone(RequestError):
    status = 499
    code = "client_gone"


class QueueFull(RequestError):
    status = 429
    code = "queue_full"
    retry_after_s = 1


class EngineFailed(RequestError):
    status = 500
    code = "engine_failed"


class EngineEnded(EngineFailed):
    """The program that generates is gone, or broke in a way nobody foresaw."""


class UpstreamFailed(EngineFailed):
    """Another server, to which requests are forwarded, failed or sent what is no answer."""

    status = 502
    code = "upstream_failed"


class ModelNotHeld(UpstreamFailed):
    """Another server knows no model of the name that a version has there."""


class NotReady(RequestError):
    status = 503
    code = "not_ready"
    retry_after_s = 1


class DeadlineExceeded(RequestError):
    status = 504
    code = "deadline_exceeded"


class VoteNotRecorded(RequestError):
    status = 507
    code = "vote_not_recorded"
    retry_after_s = 1
