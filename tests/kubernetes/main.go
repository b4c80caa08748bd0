// The OpenID routes of a Kubernetes API server, and its own generator of service account tokens, for
// tests/kubernetes.rs. Routes, keys, tokens and the authentication of requests are those of k8s.io/kubernetes.
//
// Usage: kubernetes FOLDER
//
// Writes FOLDER/ca.crt and FOLDER/token as in a pod of the gateway, prints its address, and then answers
// each line of JSON with a line of JSON:
//
//	{"token": {"audience": "a", "account": "n", "key": 0}}  a token of a pod, signed with that key  -> {"token": "…"}
//	{"publish": [0, 1]}                                     the keys that are published             -> {"published": [0, 1]}
package main

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	restful "github.com/emicklei/go-restful/v3"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/routes"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

const (
	// The issuer of a cluster of kubeadm; also the audience of tokens for the API server itself.
	issuer    = "https://kubernetes.default.svc.cluster.local"
	namespace = "erp"
	node      = "node-1"
	// The kubelet asks for this much by default.
	lifeSeconds = 3607
)

// publishedKeys are the keys that the API server publishes and accepts. They change while it runs.
type publishedKeys struct {
	mutex     sync.Mutex
	all       []crypto.Signer
	published serviceaccount.PublicKeysGetter
	listeners []serviceaccount.Listener
}

func (k *publishedKeys) publish(numbers []int) error {
	keys := make([]interface{}, 0, len(numbers))
	for _, number := range numbers {
		if number < 0 || number >= len(k.all) {
			return fmt.Errorf("there is no key %d", number)
		}
		keys = append(keys, k.all[number].Public())
	}
	getter, err := serviceaccount.StaticPublicKeysGetter(keys)
	if err != nil {
		return err
	}
	k.mutex.Lock()
	k.published = getter
	listeners := k.listeners
	k.mutex.Unlock()
	for _, listener := range listeners {
		listener.Enqueue()
	}
	return nil
}

func (k *publishedKeys) AddListener(listener serviceaccount.Listener) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.listeners = append(k.listeners, listener)
}

func (k *publishedKeys) GetCacheAgeMaxSeconds() int { return 3600 }

func (k *publishedKeys) GetPublicKeys(ctx context.Context, id string) []serviceaccount.PublicKey {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.published.GetPublicKeys(ctx, id)
}

// objects answers the lookups of the token validator: every account has one pod, on one node.
type objects struct{}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name)}
}

func (objects) GetServiceAccount(_ context.Context, namespace, name string) (*v1.ServiceAccount, error) {
	return &v1.ServiceAccount{ObjectMeta: meta(namespace, name)}, nil
}

func (objects) GetPod(_ context.Context, namespace, name string) (*v1.Pod, error) {
	return &v1.Pod{ObjectMeta: meta(namespace, name)}, nil
}

func (objects) GetSecret(_ context.Context, _, name string) (*v1.Secret, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func (objects) GetNode(_ context.Context, name string) (*v1.Node, error) {
	return &v1.Node{ObjectMeta: meta("", name)}, nil
}

// token creates the token that the kubelet projects into a pod of the account: bound to the pod and its node.
func token(key crypto.Signer, account, audience string) (string, error) {
	pod := &core.Pod{ObjectMeta: meta(namespace, account+"-0")}
	claims, private, err := serviceaccount.Claims(
		core.ServiceAccount{ObjectMeta: meta(namespace, account)},
		pod, nil, &core.Node{ObjectMeta: meta("", node)},
		lifeSeconds, lifeSeconds-7, []string{audience},
	)
	if err != nil {
		return "", err
	}
	generator, err := serviceaccount.JWTTokenGenerator(issuer, key)
	if err != nil {
		return "", err
	}
	return generator.GenerateToken(context.Background(), claims, private)
}

// authenticated accepts only tokens for the API server, as the ClusterRole system:service-account-issuer-discovery
// of a default cluster does: it is bound to all service accounts and not to anonymous requests.
func authenticated(keys *publishedKeys, next http.Handler) http.Handler {
	tokens := serviceaccount.JWTTokenAuthenticator([]string{issuer}, keys,
		authenticator.Audiences{issuer}, serviceaccount.NewValidator(objects{}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !bearer {
			http.Error(w, "no token", http.StatusForbidden)
			return
		}
		ctx := authenticator.WithAudiences(r.Context(), authenticator.Audiences{issuer})
		if _, ok, err := tokens.AuthenticateToken(ctx, value); err != nil || !ok {
			http.Error(w, "not authenticated", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// certificate creates an authority, whose certificate it returns as PEM, and a server certificate signed by it.
func certificate() ([]byte, tls.Certificate, error) {
	fail := func(err error) ([]byte, tls.Certificate, error) { return nil, tls.Certificate{}, err }
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return fail(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"kubernetes.default.svc"},
	}
	leaf, err := x509.CreateCertificate(rand.Reader, server, authority, key.Public(), authorityKey)
	if err != nil {
		return fail(err)
	}
	chain := tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: key}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), chain, nil
}

type question struct {
	Token *struct {
		Audience string `json:"audience"`
		Account  string `json:"account"`
		Key      int    `json:"key"`
	} `json:"token"`
	Publish []int `json:"publish"`
}

func answer(keys *publishedKeys, line []byte) (interface{}, error) {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return nil, err
	}
	if wanted := asked.Token; wanted != nil {
		made, err := token(keys.all[wanted.Key], wanted.Account, wanted.Audience)
		return map[string]string{"token": made}, err
	}
	return map[string][]int{"published": asked.Publish}, keys.publish(asked.Publish)
}

func run(folder string) error {
	keys := &publishedKeys{}
	for range 2 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return err
		}
		keys.all = append(keys.all, key)
	}
	if err := keys.publish([]int{0}); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	metadata, err := serviceaccount.NewOpenIDMetadataProvider(issuer, "", listener.Addr().String(), keys)
	if err != nil {
		return err
	}
	container := restful.NewContainer()
	container.Router(restful.CurlyRouter{}) // that of the API server
	routes.NewOpenIDMetadataServer(metadata).Install(container)

	authority, chain, err := certificate()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "ca.crt"), authority, 0o600); err != nil {
		return err
	}
	own, err := token(keys.all[0], "tenant-gateway", issuer)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "token"), []byte(own), 0o600); err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{chain}, MinVersion: tls.VersionTLS12}
	server := &http.Server{Handler: authenticated(keys, container), ReadHeaderTimeout: 10 * time.Second}
	go func() { log.Fatal(server.Serve(tls.NewListener(listener, config))) }()

	out := json.NewEncoder(os.Stdout)
	address := "https://" + listener.Addr().String()
	start := map[string]string{
		"issuer": issuer, "discovery": address + serviceaccount.OpenIDConfigPath, "jwks_uri": address + serviceaccount.JWKSPath,
	}
	if err := out.Encode(start); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answered, err := answer(keys, lines.Bytes())
		if err != nil {
			return err
		}
		if err := out.Encode(answered); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: kubernetes FOLDER")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}
