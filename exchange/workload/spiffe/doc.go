// Package spiffe gets workload tokens from a SPIFFE Workload API, such as the
// agent of SPIRE.
//
// It stands apart from package workload because it brings gRPC along. It asks for
// JWT-SVIDs only, and refuses to verify them: that is Entra's part. See
// https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md.
package spiffe
