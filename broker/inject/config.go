package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Config is what the cluster's administrator decides for all injected pods. Its
// JSON form is read from a file, see [ParseConfig].
type Config struct {
	// Image of the broker. Required. Its program is /credfree.
	Image string `json:"image"`
	// ImagePullPolicy of the broker; "" is the cluster's default.
	ImagePullPolicy string `json:"imagePullPolicy,omitempty"`
	// User is the uid and gid of the broker, which no agent may have; 0 means
	// [DefaultUser].
	User int64 `json:"user,omitempty"`
	// Audience of the workload token; "" is that of Entra's public cloud.
	Audience string `json:"audience,omitempty"`
	// TokenExpirationSeconds is the life of the workload token, from 600 to
	// 86400; 0 means an hour.
	TokenExpirationSeconds int64 `json:"tokenExpirationSeconds,omitempty"`
	// Resources of the broker, unless the pod says otherwise.
	Resources Resources `json:"resources,omitzero"`
	// MaxCPU and MaxMemory bound what a pod may ask for its broker; "" is no
	// bound.
	MaxCPU    string `json:"maxCPU,omitempty"`
	MaxMemory string `json:"maxMemory,omitempty"`
	// Env is added to the broker's environment, OTEL_* for example.
	Env map[string]string `json:"env,omitempty"`
	// Ceiling is a ConfigMap of the pod's namespace with the key ceiling.yaml: what
	// the policies there may grant at most. A pod does not start without it. "" is
	// no ceiling.
	Ceiling string `json:"ceiling,omitempty"`
	// ServiceAccounts makes the webhook read the pod's service account for the
	// annotations that azure-workload-identity knows.
	ServiceAccounts bool `json:"serviceAccounts,omitempty"`
}

// Resources are a container's, as Kubernetes writes them.
type Resources struct {
	Requests map[string]string `json:"requests,omitempty"`
	Limits   map[string]string `json:"limits,omitempty"`
}

// DefaultUser is the broker's uid and gid. It is nobody's: not that of common
// base images (65532, 1000, 101) nor of other sidecars.
const DefaultUser = 7400

const (
	defaultAudience   = "api://AzureADTokenExchange"
	defaultExpiration = 3600
	minExpiration     = 600   // what Kubernetes allows
	maxExpiration     = 86400 // and what Entra accepts
)

// ParseConfig reads the JSON form, strictly, and validates it.
func ParseConfig(data []byte) (Config, error) {
	var cfg Config
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&cfg); err != nil {
		return Config{}, fmt.Errorf("webhook configuration: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("webhook configuration: something follows the object")
	}
	return cfg.withDefaults(), cfg.Validate()
}

func (c Config) withDefaults() Config {
	if c.User == 0 {
		c.User = DefaultUser
	}
	if c.Audience == "" {
		c.Audience = defaultAudience
	}
	if c.TokenExpirationSeconds == 0 {
		c.TokenExpirationSeconds = defaultExpiration
	}
	if c.Resources.Requests == nil && c.Resources.Limits == nil {
		c.Resources = Resources{
			Requests: map[string]string{"cpu": "10m", "memory": "48Mi"},
			Limits:   map[string]string{"memory": "128Mi"}, // and no limit of cpu: every agent waits when the broker is throttled
		}
	}
	return c
}

// Validate returns everything that is wrong.
func (c Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("webhook configuration: "+format, args...))
	}
	if c.Image == "" {
		bad("image is missing")
	} else if !imageForm.MatchString(c.Image) {
		bad("image %q is not the name of an image", c.Image)
	}
	if !slices.Contains([]string{"", "Always", "IfNotPresent", "Never"}, c.ImagePullPolicy) {
		bad("imagePullPolicy %q is not Always, IfNotPresent or Never", c.ImagePullPolicy)
	}
	if c.User < 0 || c.User > maxUser {
		bad("user %d is not a uid from 1 to %d", c.User, maxUser)
	}
	if c.Audience != "" && !audienceForm.MatchString(c.Audience) {
		bad("audience %q is not an audience: it has spaces, or more than 256 characters", c.Audience)
	}
	if c.TokenExpirationSeconds != 0 && (c.TokenExpirationSeconds < minExpiration || c.TokenExpirationSeconds > maxExpiration) {
		bad("tokenExpirationSeconds is not from %d to %d", minExpiration, maxExpiration)
	}
	if c.Ceiling != "" && !configMap.MatchString(c.Ceiling) {
		bad("ceiling %q is not the name of a ConfigMap", c.Ceiling)
	}
	c.Resources.check(bad)
	for _, bound := range [][2]string{{"maxCPU", c.MaxCPU}, {"maxMemory", c.MaxMemory}} {
		if _, ok := quantity(bound[1]); !ok && bound[1] != "" {
			bad(notQuantity, bound[0], bound[1])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		if !variableName.MatchString(name) || slices.Contains(ownVariables, name) {
			bad("env %s cannot be set: it is not a name, or is set for each pod", name)
		}
	}
	return errors.Join(problems...)
}

const notQuantity = "%s %q is not a quantity such as 100m or 64Mi"

// check says what Kubernetes would refuse in every pod.
func (r Resources) check(bad func(format string, args ...any)) {
	for _, set := range []map[string]string{r.Requests, r.Limits} {
		for _, name := range slices.Sorted(maps.Keys(set)) {
			if _, ok := quantity(set[name]); !ok {
				bad(notQuantity, name, set[name])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		request, asked := quantity(r.Requests[name])
		limit, bounded := quantity(r.Limits[name])
		if asked && bounded && request.Cmp(limit) > 0 {
			bad("resources.requests.%s %s is above its limit, %s", name, r.Requests[name], r.Limits[name])
		}
	}
}
