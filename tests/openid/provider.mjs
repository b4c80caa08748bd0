// A real OpenID provider for tests/openid.rs. Prints its address, then answers each line of JSON with a line of JSON.
//   {"key": "two", "alg": "ES256"}    adds a key                            ->  {"keys": ["one", "two"]}
//   {"sign": "two", "sub": "sync"}    a token signed with that key          -> {"token": "…"}
//   {"publish": ["two"]}              restarts with these keys only         ->  {"keys": ["two"]}
//   {"down": true}                    stops                                 ->  {"down": true}
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const { OAuth2Server } = createRequire(process.argv[2] + '/')('oauth2-mock-server');
const keys = new Map();
let server;

async function publish(names, port) {
  if (server) await server.stop();
  server = new OAuth2Server();
  for (const name of names) await server.issuer.keys.add(keys.get(name));
  await server.start(port, '127.0.0.1');
  server.issuer.url = `http://127.0.0.1:${server.address().port}`;
}

async function addKey(name, alg) {
  keys.set(name, await server.issuer.keys.generate(alg, { kid: name }));
}

async function answer({ key, alg, sign, sub, publish: names, down }) {
  const { port } = server.listening ? server.address() : { port: 0 };
  if (key) {
    await addKey(key, alg);
    return { keys: [...keys.keys()] };
  }
  if (sign) {
    const transform = (_header, claims) => Object.assign(claims, { sub, aud: 'tenant-gateway' });
    return { token: await server.issuer.buildToken({ kid: sign, scopesOrTransform: transform }) };
  }
  if (names) {
    await publish(names, port);
    return { keys: names };
  }
  if (down) {
    await server.stop();
    return { down };
  }
  throw new Error('unknown request');
}

await publish([], 0);
await addKey('one', 'RS256');
console.log(JSON.stringify({ issuer: server.issuer.url }));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
await server.stop();
