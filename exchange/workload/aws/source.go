package aws

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/credfree/credfree/exchange/workload"
)

const (
	// limit bounds one token, with all that the SDK repeats; requestLimit one
	// request.
	limit, requestLimit = 30 * time.Second, 10 * time.Second

	// tokenSeconds is AWS's own default, and what roles are usually allowed. The
	// token is exchanged at once.
	tokenSeconds = 300

	maxAnswerBytes = 1 << 20
)

// Source asks AWS STS for a token of the broker's own role, signed with RS256 and
// valid for five minutes, at each exchange. Credentials come from the default
// chain of the AWS SDK, anew each time: the environment, the shared files, a web
// identity, the ECS and EKS Pod Identity endpoints, the instance metadata service.
// Requests to the last two use no proxy; those to STS use the environment's. The
// token's subject is the role's ARN. It implements workload.Source.
type Source struct {
	Audience string // required: that of the cloud's federated credentials
	// Region has the STS endpoint that is asked; the global one hands out no tokens.
	// Empty: AWS_REGION, or the region of the shared configuration.
	Region string
}

var regionName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// Assertion implements workload.Source.
func (s Source) Assertion(ctx context.Context) (workload.Assertion, error) {
	if err := ctx.Err(); err != nil {
		return workload.Assertion{}, givenUp(err)
	}
	if s.Audience == "" {
		return workload.Assertion{}, &workload.Error{Problem: workload.Malformed, Message: "AWS needs to know the audience of the token", Hint: "give the one that the cloud's federated credentials expect"}
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client, failure := s.client(ctx, limited)
	if failure != nil {
		return workload.Assertion{}, failure
	}
	got, err := client.GetWebIdentityToken(limited, &sts.GetWebIdentityTokenInput{
		Audience: []string{s.Audience}, SigningAlgorithm: sdk.String("RS256"), DurationSeconds: sdk.Int32(tokenSeconds),
	})
	if err != nil {
		return workload.Assertion{}, explain(ctx, err)
	}
	return workload.Parse(sdk.ToString(got.WebIdentityToken))
}

// client is one that has credentials. ctx is the caller's, limited what the SDK may
// take.
func (s Source) client(ctx, limited context.Context) (*sts.Client, *workload.Error) {
	cfg, err := config.LoadDefaultConfig(limited,
		config.WithRegion(s.Region), // "" leaves it to the environment
		config.WithHTTPClient(httpClient()),
		config.WithClientLogMode(0), config.WithLogger(logging.Nop{}))
	switch {
	case over(ctx) != nil:
		return nil, givenUp(over(ctx))
	case err != nil:
		return nil, &workload.Error{Problem: workload.Malformed, Message: "the AWS configuration cannot be loaded", Hint: "check AWS_PROFILE, AWS_CONFIG_FILE and AWS_CA_BUNDLE: aws configure list, as the broker's user, says more"}
	case !regionName.MatchString(cfg.Region):
		return nil, &workload.Error{Problem: workload.Malformed, Message: "AWS needs to know the region whose STS is to be asked", Hint: "name it in the policy, such as eu-west-1, or set AWS_REGION"}
	}
	if _, err := cfg.Credentials.Retrieve(limited); err != nil {
		if err := over(ctx); err != nil {
			return nil, givenUp(err)
		}
		return nil, &workload.Error{Problem: workload.Unavailable, Message: "there are no AWS credentials for the broker",
			Hint: "give its pod, task or instance a role; on EC2 a container needs a hop limit of 2 to reach the metadata service"}
	}
	transport := http.DefaultTransport
	if found, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok { // which may have AWS_CA_BUNDLE by now
		transport = found.GetTransport()
	}
	return sts.NewFromConfig(cfg, func(o *sts.Options) {
		o.HTTPClient = &http.Client{
			Transport: bounded{transport}, Timeout: requestLimit,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}), nil
}

// httpClient is of the one kind that the SDK adds AWS_CA_BUNDLE to.
func httpClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTimeout(requestLimit).WithTransportOptions(func(t *http.Transport) {
		t.Proxy, t.DisableKeepAlives = proxy, true
	})
}

// besides are where AWS's own endpoints for credentials are: next door.
var besides = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func proxy(req *http.Request) (*url.URL, error) {
	if address, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
		for _, prefix := range besides {
			if prefix.Contains(address.Unmap()) {
				return nil, nil // no proxy
			}
		}
	}
	return http.ProxyFromEnvironment(req)
}

// bounded keeps the SDK, which reads answers whole, from reading without end.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswerBytes), resp.Body}
	}
	return resp, err
}
