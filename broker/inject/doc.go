// Package inject is the admission webhook that puts the broker beside a pod.
//
// It owns what an injected pod looks like: the broker as a native sidecar, the
// workload token that only the broker can read, one socket per agent, and the
// environment in which an unmodified agent finds the broker. It refuses pods in
// which an agent could become another one or reach the broker's own proof of
// identity, and says what to change.
//
// It links no Kubernetes API types. What it does not know in a pod it leaves as
// it is: it changes the raw object, by JSON Patch (RFC 6902), so that a field
// newer than this program survives. Patching what is patched changes nothing:
// the API server calls a webhook again when another one has changed the pod.
//
// It also checks the policies in labelled ConfigMaps when they are written. It
// issues no token, applies no policy, and has no rights in the cluster beyond
// reading service accounts, where it is asked to.
package inject
