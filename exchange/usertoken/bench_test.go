package usertoken_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange/entratest"
)

// BenchmarkVerify is to be read beside the signature alone, which nothing can go below.
func BenchmarkVerify(b *testing.B) {
	server := newEntra(b)
	v := newVerifier(b, server.RoundTripper())
	raw := userToken(b, server, entratest.UserTokenRequest{})
	if _, err := v.Verify(b.Context(), raw, ours); err != nil {
		b.Fatal(err)
	}
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(b.Context(), raw, ours); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("token, parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := v.Verify(b.Context(), raw, ours); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("signature alone", func(b *testing.B) {
		raw := sign(b, header(), good())
		end := strings.LastIndexByte(raw, '.')
		signature, err := base64.RawURLEncoding.DecodeString(raw[end+1:])
		if err != nil {
			b.Fatal(err)
		}
		key := &authorityKeys()[0].PublicKey
		b.ReportAllocs()
		for b.Loop() {
			digest := sha256.Sum256([]byte(raw[:end]))
			if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("refused before the signature", func(b *testing.B) {
		raw := sign(b, header(), good("aud", frontend))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(b.Context(), raw, ours); err == nil {
				b.Fatal("not refused")
			}
		}
	})
}
