package aws

import (
	"context"
	"errors"
	"strconv"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/credfree/credfree/exchange/workload"
)

// refusal says what to change about one kind of refusal.
type refusal struct {
	problem workload.Problem
	message string
	hint    string
}

var (
	disabled = refusal{workload.Denied, "outbound identity federation is switched off for this AWS account",
		"an administrator switches it on (aws iam enable-outbound-web-identity-federation); the issuer that it prints goes into the federated identity credential"}
	denied = refusal{workload.Denied, "AWS does not let the broker's role have a token for this audience",
		"allow it sts:GetWebIdentityToken; a condition must fit the audience (sts:IdentityTokenAudience), RS256 and 300 seconds (sts:DurationSeconds)"}
	stranger = refusal{workload.Unavailable, "AWS does not accept the broker's credentials",
		"they may have expired or been replaced: check what hands them out, and this machine's clock"}
	throttled = refusal{workload.Unavailable, "AWS is throttling this account", "wait before asking again"}
)

// refusals are known by AWS's code. What AWS wrote beside it is not shown.
var refusals = map[string]refusal{
	"OutboundWebIdentityFederationDisabledException": disabled,
	"OutboundWebIdentityFederationDisabled":          disabled,
	"AccessDenied":                                   denied,
	"AccessDeniedException":                          denied,
	"ExpiredToken":                                   stranger,
	"ExpiredTokenException":                          stranger,
	"InvalidClientTokenId":                           stranger,
	"UnrecognizedClientException":                    stranger,
	"SignatureDoesNotMatch":                          stranger,
	"RequestExpired":                                 stranger,
	"Throttling":                                     throttled,
	"ThrottlingException":                            throttled,
	"TooManyRequestsException":                       throttled,
	"RequestLimitExceeded":                           throttled,
	"SessionDurationEscalationException": {workload.Unavailable, "the broker's AWS credentials end before the token would",
		"the platform replaces them in time; ask again"},
	"RegionDisabledException": {workload.Malformed, "AWS STS is not activated in this region", "activate it, or name another region"},
	"InvalidAction":           {workload.Malformed, "this AWS endpoint hands out no tokens", "name a region: the global endpoint has no such action"},
}

// explain says why STS gave no token. ctx is the caller's.
func explain(ctx context.Context, err error) *workload.Error {
	var (
		said     smithy.APIError
		response *awshttp.ResponseError
	)
	if err := over(ctx); err != nil {
		return givenUp(err)
	}
	if errors.As(err, &said) {
		if known, ok := refusals[said.ErrorCode()]; ok {
			return &workload.Error{Problem: known.problem, Message: known.message, Hint: known.hint}
		}
	}
	switch {
	case errors.As(err, &response) && response.HTTPStatusCode() != 0:
		return answered(response.HTTPStatusCode())
	case errors.Is(err, context.DeadlineExceeded):
		return &workload.Error{Problem: workload.Unavailable, Message: "AWS STS did not answer in time", Hint: "check the network path to the regional endpoint, or make a VPC endpoint for it", Err: context.DeadlineExceeded}
	}
	return &workload.Error{Problem: workload.Unavailable, Message: "AWS STS cannot be reached", Hint: "check the region, DNS, and the network path to the regional endpoint"}
}

// answered explains a status without a code that is known.
func answered(status int) *workload.Error {
	const intercepted = "check what answers in its place: AWS_ENDPOINT_URL_STS, and what intercepts TLS"
	e := &workload.Error{Problem: workload.Unavailable, Message: "AWS STS answered with status " + strconv.Itoa(status), Hint: "it may be busy; ask again"}
	switch {
	case status < 300:
		e.Problem, e.Message, e.Hint = workload.Malformed, "AWS STS gave an answer that cannot be read", intercepted
	case status < 400:
		e.Problem, e.Message, e.Hint = workload.Malformed, e.Message+", and redirects are not followed", intercepted
	case status < 500:
		e.Problem, e.Hint = workload.Denied, "CloudTrail of the account has the refusal: compare the audience with the role's policy"
	}
	return e
}

// over is why the caller is gone, or nil. The network may notice that the deadline
// has passed before the context's own timer does.
func over(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func givenUp(err error) *workload.Error {
	return &workload.Error{Problem: workload.Unavailable, Message: "getting the workload token was given up", Hint: "the caller went away first; ask again", Err: err}
}
