package entratest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultPage = 100
	maxPage     = 999
)

// readsGroups are the permissions with which groups can be read as such;
// readsUsers are enough to see that there are some.
var (
	readsGroups = []string{"GroupMember.Read.All", "Group.Read.All", "Directory.Read.All"}
	readsUsers  = []string{"User.Read.All", "Directory.Read.All"}
)

// graph lets requests with a valid token for Microsoft Graph through.
func (a api) graph(next apiHandler) http.Handler { return a.authorized(next, graphClientID) }

// may says whether the token has one of these permissions, of the kind it is.
func (c caller) may(permissions ...string) bool {
	have := c.Roles
	if c.isUser() {
		have = strings.Fields(c.Scope)
	}
	return slices.ContainsFunc(have, func(p string) bool { return slices.Contains(permissions, p) })
}

// target finds the user the path is about and answers if there is none, or none
// that the token may read with User.Read or one of the permissions.
func (a api) target(w http.ResponseWriter, r *http.Request, c caller, permissions ...string) (*User, bool) {
	name := r.PathValue("id")
	if name == "" {
		if !c.isUser() {
			apiError(w, http.StatusBadRequest, "BadRequest", "/me request is only valid with delegated authentication flow.")
			return nil, false
		}
		name = c.ObjectID
	}
	self := c.isUser() && strings.EqualFold(name, c.ObjectID) && c.may("User.Read")
	if !self && !c.may(permissions...) {
		apiError(w, http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
		return nil, false
	}
	u, ok := c.tenant.user(name)
	if !ok {
		apiError(w, http.StatusNotFound, "Request_ResourceNotFound", "Resource does not exist or one of its queried reference-property objects are not present.")
		return nil, false
	}
	return u, true
}

func (a api) me(w http.ResponseWriter, r *http.Request, c caller) { a.user(w, r, c) }

func (a api) user(w http.ResponseWriter, r *http.Request, c caller) {
	u, ok := a.target(w, r, c, readsUsers...)
	if !ok {
		return
	}
	doc := describe(u)
	doc["@odata.context"] = originOfRequest(r) + "/v1.0/$metadata#users/$entity"
	apiJSON(w, http.StatusOK, doc)
}

// memberOf lists groups in pages, with names for who may read them.
func (a api) memberOf(w http.ResponseWriter, r *http.Request, c caller) {
	u, ok := a.target(w, r, c, append(readsGroups, readsUsers...)...)
	if !ok {
		return
	}
	groups := c.tenant.directMemberships(u.ObjectID)
	if strings.HasSuffix(r.URL.Path, "/transitiveMemberOf") {
		groups = c.tenant.memberships(u.ObjectID)
	}
	a.writePage(w, r, "directoryObjects", len(groups), func(i int) map[string]any {
		value := map[string]any{"@odata.type": "#microsoft.graph.group", "id": groups[i], "displayName": nil}
		if g, ok := c.tenant.groups[groups[i]]; ok && c.may(readsGroups...) {
			value["displayName"] = g.DisplayName
		}
		return value
	})
}

// userList lists the users of the tenant in pages.
func (a api) userList(w http.ResponseWriter, r *http.Request, c caller) {
	if !c.may(readsUsers...) {
		apiError(w, http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
		return
	}
	a.writePage(w, r, "users", len(c.tenant.Users), func(i int) map[string]any { return describe(&c.tenant.Users[i]) })
}

func describe(u *User) map[string]any {
	return map[string]any{"id": u.ObjectID, "displayName": u.DisplayName, "userPrincipalName": u.UserPrincipalName}
}

// writePage answers with the page that is asked for, and where the next one is.
func (a api) writePage(w http.ResponseWriter, r *http.Request, of string, total int, value func(i int) map[string]any) {
	top, skip, ok := page(r.URL.Query())
	if !ok {
		apiError(w, http.StatusBadRequest, "Request_BadRequest", "Invalid page: $top is 1 to 999, and $skiptoken comes from @odata.nextLink.")
		return
	}
	first := min(skip, total)
	last := min(first+top, total)
	values := make([]map[string]any, 0, last-first)
	for i := first; i < last; i++ {
		values = append(values, value(i))
	}
	doc := map[string]any{"@odata.context": originOfRequest(r) + "/v1.0/$metadata#" + of, "value": values}
	if last < total {
		doc["@odata.nextLink"] = originOfRequest(r) + r.URL.EscapedPath() + "?$top=" + strconv.Itoa(top) + "&$skiptoken=" + strconv.Itoa(last)
	}
	apiJSON(w, http.StatusOK, doc)
}

func page(query url.Values) (top, skip int, ok bool) {
	top = defaultPage
	var err error
	if text := query.Get("$top"); text != "" {
		if top, err = strconv.Atoi(text); err != nil || top < 1 || top > maxPage {
			return 0, 0, false
		}
	}
	if text := query.Get("$skiptoken"); text != "" {
		if skip, err = strconv.Atoi(text); err != nil || skip < 0 {
			return 0, 0, false
		}
	}
	return top, skip, true
}

// memberObjects answers with all ids at once, as the real function does.
func (a api) memberObjects(w http.ResponseWriter, r *http.Request, c caller) {
	u, ok := a.target(w, r, c, append(readsGroups, readsUsers...)...)
	if !ok {
		return
	}
	var body struct {
		SecurityEnabledOnly *bool `json:"securityEnabledOnly"`
	}
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, maxForm)).Decode(&body) != nil || body.SecurityEnabledOnly == nil {
		apiError(w, http.StatusBadRequest, "Request_BadRequest", "The body is not {\"securityEnabledOnly\": true or false}.")
		return
	}
	apiJSON(w, http.StatusOK, map[string]any{
		"@odata.context": originOfRequest(r) + "/v1.0/$metadata#Collection(Edm.String)",
		"value":          append([]string{}, c.tenant.memberships(u.ObjectID)...),
	})
}

// originOfRequest is how the client reached the API, which is always with TLS.
func originOfRequest(r *http.Request) string { return "https://" + r.Host }
