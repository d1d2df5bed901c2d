// A provider of single sign-on for tests: the npm package oidc-provider, and one that lies.
//
//   provider.mjs MODULES PORT BACK LOGOUT     the real one: people are signed in as /as?account=NAME said last
//   provider.mjs lies PORT CLIENT ELSEWHERE   each /set?lie=NAME chooses what the next answers are
//
// It says "ready" when it listens. People are made up; their addresses are reserved ones.
import http from 'node:http';
import path from 'node:path';
import { createHash, createSign, generateKeyPairSync, randomBytes } from 'node:crypto';

const [mode, port, third, fourth] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const keys = () => {
  const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...pair, kid: randomBytes(4).toString('hex') };
};
const jwk = (pair, part) => ({ ...pair[part].export({ format: 'jwk' }), kid: pair.kid, alg: 'RS256', use: 'sig' });
const listen = (handler) => http.createServer(handler).listen(Number(port), '127.0.0.1', () => console.log('ready'));

if (mode === 'lies') {
  let lie = '', nonce = '', pair = keys();
  const other = keys();
  const encode = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
  const sign = (claims, by = pair, head = {}) => {
    const signed = `${encode({ alg: 'RS256', kid: by.kid, ...head })}.${encode(claims)}`;
    return `${signed}.${createSign('RSA-SHA256').update(signed).sign(by.privateKey).toString('base64url')}`;
  };
  const unsigned = (claims) => `${encode({ alg: 'none' })}.${encode(claims)}.`;
  const logout = (now, more = {}, drop = []) => {
    const claims = {
      iss: issuer, aud: third, iat: now, exp: now + 120, jti: randomBytes(8).toString('hex'), sub: 'liar',
      events: { 'http://schemas.openid.net/event/backchannel-logout': {} }, ...more,
    };
    for (const name of drop) delete claims[name];
    return claims;
  };
  listen((request, answer) => {
    const url = new URL(request.url, issuer);
    const json = (value) => { answer.setHeader('Content-Type', 'application/json'); answer.end(JSON.stringify(value)); };
    const now = Math.floor(Date.now() / 1000);
    switch (url.pathname) {
      case '/set':
        lie = url.searchParams.get('lie');
        if (lie === 'rotated') pair = keys();
        return answer.end('set');
      case '/.well-known/openid-configuration': {
        const at = (name) => (lie === `${name} elsewhere` ? `${fourth}/${name}` : `${issuer}/${name}`);
        if (lie === 'redirect') { answer.writeHead(302, { Location: `${fourth}/discovery` }); return answer.end(); }
        if (lie === 'large') return answer.end(`{"issuer": "${'x'.repeat(2 << 20)}"}`);
        if (lie === 'no json') return answer.end('<html>');
        return json({
          issuer: lie === 'other issuer' ? 'http://127.0.0.1:1' : issuer,
          authorization_endpoint: at('auth'), token_endpoint: at('token'), jwks_uri: at('jwks'),
          userinfo_endpoint: at('me'), response_types_supported: ['code'], subject_types_supported: ['public'],
          id_token_signing_alg_values_supported: ['RS256'],
        });
      }
      case '/jwks': return json({ keys: [jwk(pair, 'publicKey')] });
      case '/nonce': nonce = url.searchParams.get('nonce'); return answer.end('kept');
      case '/logout-token': {
        const tokens = {
          right: () => sign(logout(now)), 'another key': () => sign(logout(now), other), 'no signature': () => unsigned(logout(now)),
          'another audience': () => sign(logout(now, { aud: 'x' })), old: () => sign(logout(now, { iat: now - 4000 })),
          'a nonce': () => sign(logout(now, { nonce: 'n' })), 'no event': () => sign(logout(now, {}, ['events'])),
          'nobody named': () => sign(logout(now, {}, ['sub'])), 'another issuer': () => sign(logout(now, { iss: 'http://x' })),
        };
        return answer.end(tokens[lie]());
      }
      case '/me': return json({ sub: lie === 'another subject' ? 'somebody' : 'liar', email: 'liar@shop.example', groups: [lie === 'no role' ? 'x' : 'desk'] });
      case '/token': {
        const access = 'access-token';
        const half = createHash('sha256').update(access).digest().subarray(0, 16).toString('base64url');
        const claims = {
          iss: issuer, aud: third, sub: 'liar', iat: now, exp: now + 300, nonce, at_hash: half,
          email: 'liar@shop.example', name: 'Liar', groups: ['desk'],
        };
        const lies = {
          'another key': () => sign(claims, other), 'no signature': () => unsigned(claims),
          'another audience': () => sign({ ...claims, aud: 'x' }), 'another issuer': () => sign({ ...claims, iss: 'http://x' }),
          'another nonce': () => sign({ ...claims, nonce: 'x' }), 'no nonce': () => sign({ ...claims, nonce: undefined }),
          over: () => sign({ ...claims, exp: now - 10 }), 'another token': () => sign({ ...claims, at_hash: 'AAAA' }),
          'shared secret': () => sign(claims, pair, { alg: 'HS256' }), 'no role': () => sign({ ...claims, groups: ['x'] }),
          'address not verified': () => sign({ ...claims, email_verified: false }),
          'another subject': () => sign({ ...claims, groups: undefined }),
        };
        const token = (lies[lie] ?? (() => sign(claims)))();
        if (lie === 'slow') return setTimeout(() => json({}), 30_000);
        return json({ access_token: access, token_type: 'Bearer', expires_in: 300, id_token: token });
      }
      default: answer.statusCode = 404; return answer.end();
    }
  });
} else {
  const { Provider } = await import(path.join(mode, 'oidc-provider/lib/index.js'));
  const accounts = {
    desk: { sub: 'desk', email: 'desk@shop.example', email_verified: true, name: 'Desk One', groups: ['desk'] },
    officer: { sub: 'officer', email: 'officer@shop.example', email_verified: true, name: 'Officer', groups: ['compliance', 'x'] },
    nobody: { sub: 'nobody', email: 'nobody@shop.example', email_verified: true, name: 'Nobody', groups: [] },
    taken: { sub: 'taken', email: 'staff.one@shop.example', email_verified: true, name: 'Taken', groups: ['compliance'] },
  };
  let account = 'desk';
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'candor', client_secret: 'not-a-secret', redirect_uris: [third], backchannel_logout_uri: fourth,
      backchannel_logout_session_required: true,
    }],
    pkce: { required: () => true },
    jwks: { keys: [jwk(keys(), 'privateKey')] },
    cookies: { keys: ['of a test'] },
    scopes: ['openid', 'email', 'profile'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
    features: { devInteractions: { enabled: false }, backchannelLogout: { enabled: true } },
    // It asks nothing of this machine itself, unless it is told to.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_, id) => accounts[id] && { accountId: id, claims: () => accounts[id] },
    async loadExistingGrant(context) {
      const { client, session, provider: own } = context.oidc;
      const grant = new own.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope('openid email profile');
      await grant.save();
      return grant;
    },
  });
  const handler = provider.callback();
  listen((request, answer) => {
    const url = new URL(request.url, issuer);
    if (url.pathname === '/as') {
      account = url.searchParams.get('account');
      const groups = url.searchParams.get('groups');
      if (groups) accounts[account].groups = groups.split(',');
      return answer.end('set');
    }
    if (url.pathname.startsWith('/interaction/')) {
      return provider.interactionFinished(request, answer, { login: { accountId: account, amr: ['pwd', 'otp'] } });
    }
    return handler(request, answer);
  });
}
