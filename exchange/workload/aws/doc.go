// Package aws gets workload tokens from AWS: outbound identity federation turns
// the credentials that a role has on EC2, ECS, EKS or Lambda into a token that
// Entra can trust.
//
// It stands apart from package workload because it brings the AWS SDK along, which
// finds the credentials and signs the request. It refuses to show either, and
// knows one action only, sts:GetWebIdentityToken. See
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound.html.
package aws
