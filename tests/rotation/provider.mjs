// A real OpenID provider for tests/it/rotating_provider.rs, in place of SuperOffice's login host. Each refresh token
// works once, and a reused one revokes all tokens of the same sign-in. Other requests go to the simulated login host.
// Prints its address, then answers each line of JSON with a line of JSON.
//   {"people": [[5, "tony@example.com"]]}   signs these people in         -> {"refresh_tokens": ["…"]}
//   {"tell": true}                          counts since the last request -> {"refreshes": 1, "revoked": 0, "refused": 0}
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { createServer, request as ask } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [modules, behind, clientId, clientSecret, tenant] = process.argv.slice(2);
const path = createRequire(modules + '/').resolve('oidc-provider');
const { default: Provider } = await import(pathToFileURL(path));

const CLAIMS = 'http://schemes.superoffice.net/identity/';
const OWN = ['/login/common/oauth/', '/login/.well-known/'];

// The package's own storage drops entries beyond a thousand.
const kept = new Map();
class Adapter {
  constructor(kind) {
    this.key = (id) => `${kind} ${id}`;
  }
  async upsert(id, payload) {
    kept.set(this.key(id), payload);
  }
  async find(id) {
    return kept.get(this.key(id));
  }
  async consume(id) {
    kept.get(this.key(id)).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    kept.delete(this.key(id));
  }
  async revokeByGrantId(grantId) {
    for (const [key, payload] of kept) if (payload.grantId === grantId) kept.delete(key);
  }
}

const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const origin = `http://127.0.0.1:${server.address().port}`;

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const people = new Map();
const provider = new Provider(origin, {
  adapter: Adapter,
  clients: [{
    client_id: clientId,
    client_secret: clientSecret,
    application_type: 'native',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['http://127.0.0.1/callback'],
    response_types: ['code'],
    token_endpoint_auth_method: 'client_secret_post',
  }],
  claims: { openid: ['sub', 'ctx', 'associateid', 'upn'].map((claim) => (claim === 'sub' ? claim : CLAIMS + claim)) },
  conformIdTokenClaims: false,
  cookies: { keys: ['of no use here'] },
  features: { devInteractions: { enabled: false }, revocation: { enabled: true } },
  findAccount: (_context, upn) => ({
    accountId: upn,
    claims: () => ({
      sub: upn,
      [`${CLAIMS}ctx`]: tenant,
      [`${CLAIMS}associateid`]: String(people.get(upn)),
      [`${CLAIMS}upn`]: upn,
    }),
  }),
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', kid: 'one', use: 'sig' }] },
  rotateRefreshToken: true,
  routes: {
    authorization: '/login/common/oauth/authorize',
    jwks: '/login/.well-known/jwks',
    revocation: '/login/common/oauth/revoke',
    token: '/login/common/oauth/tokens',
  },
  ttl: { AccessToken: 2, Grant: 86400, IdToken: 300, RefreshToken: 86400 },
});

const seen = { refreshes: 0, revoked: 0, refused: 0 };
provider.on('grant.success', () => (seen.refreshes += 1));
provider.on('grant.revoked', () => (seen.revoked += 1));
provider.on('grant.error', () => (seen.refused += 1));
provider.on('server_error', (_context, error) => console.error(error));

const own = provider.callback();
server.on('request', (request, response) => {
  if (OWN.some((start) => request.url.startsWith(start))) return own(request, response);
  const { method, headers, url } = request;
  const onward = ask(new URL(url, behind), { method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', () => response.destroy());
  return request.pipe(onward);
});

async function signIn([associateId, upn]) {
  people.set(upn, associateId);
  const grant = new provider.Grant({ accountId: upn, clientId });
  grant.addOIDCScope('openid');
  const client = await provider.Client.find(clientId);
  const grantId = await grant.save();
  const gty = 'authorization_code';
  return new provider.RefreshToken({ accountId: upn, client, grantId, gty, scope: 'openid' }).save();
}

console.log(JSON.stringify({ origin }));
for await (const line of createInterface({ input: process.stdin })) {
  const { people: signedIn } = JSON.parse(line);
  const told = signedIn ? { refresh_tokens: await Promise.all(signedIn.map(signIn)) } : seen;
  console.log(JSON.stringify(told));
}
server.close();
