package policy_test

import (
	"net/url"
	"regexp"
	"strings"
)

var (
	modelGUID     = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[^/]+$`)
	modelHost     = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	modelSegment  = regexp.MustCompile(`^[A-Za-z0-9_~!$&'()+,;=:@-][A-Za-z0-9._~!$&'()+,;=:@-]*$`)
	modelReserved = regexp.MustCompile(`(?i)^(api://)?(fb60f99c-7a34-4190-8149-302f77469936|a9dd8a2a-df54-4ae0-84f9-38c8d57e5265)/|^api://Azure(AD|FMI)TokenExchange`)
)

// Who lists the first may have the other.
const modelARM, modelARMAlias = "https://management.azure.com/.default", "https://management.core.windows.net/.default"

var modelTwoSlashes = regexp.MustCompile(`([^/])//\.default$`)

func modelScope(scope string) (resource string, ok bool) {
	slash := strings.LastIndex(scope, "/")
	if slash < 0 || len(scope) > 512 {
		return "", false
	}
	resource, name := scope[:slash], scope[slash+1:]
	if name != ".default" && !modelSegment.MatchString(name) {
		return "", false
	}
	if modelGUID.MatchString(scope) {
		return resource, true
	}
	u, err := url.Parse(resource)
	if err != nil || u.Scheme+"://"+u.Host+u.Path != resource {
		return "", false
	}
	for _, segment := range strings.Split(u.Path, "/")[1:] {
		if !modelSegment.MatchString(segment) {
			return "", false
		}
	}
	switch u.Scheme {
	case "https":
		return resource, len(u.Host) <= 253 && modelHost.MatchString(u.Host)
	case "api":
		return resource, modelSegment.MatchString(u.Host) && !strings.Contains(u.Host, ":")
	}
	return "", false
}
