// A certified OAuth 2 server on loopback for the tests, with a control port that reads its log and plans its failures.
//
// Started by oidc.py with one JSON argument; prints one JSON line when it listens; ends when its standard input ends, so
// that it cannot outlive the test that started it.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

import Provider from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);

const escape = (text) => String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

// ---- the listener, first: the issuer names its port -------------------------------------------------------------------

const server = settings.tls ? createSecureServer(settings.tls) : createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `${settings.tls ? 'https' : 'http'}://${settings.host}:${server.address().port}`;

const head = (title) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title><h1>${title}</h1>`;

// ---- the provider --------------------------------------------------------------------------------------------------------

const client = (id, method, secret) => ({
  client_id: id,
  ...(secret === null ? {} : { client_secret: secret }),
  token_endpoint_auth_method: method,
  redirect_uris: settings.redirect_uris,
  response_types: ['code'],
  grant_types: [
    'authorization_code',
    'refresh_token',
    'urn:ietf:params:oauth:grant-type:device_code',
    ...(secret === null ? [] : ['client_credentials']),
  ],
  // Plain http on 127.0.0.1 is the redirect URI of RFC 8252 section 7.3, which OpenID allows to native applications only.
  application_type: 'native',
});

const provider = new Provider(issuer, {
  clients: settings.clients.map(({ id, method, secret }) => client(id, method, secret)),
  clientDefaults: { application_type: 'native' },
  routes: settings.routes,
  scopes: ['openid', 'offline_access', 'profile', 'email', 'repo'],
  claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email'] },
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({ sub, name: `The ${sub}`, preferred_username: sub, email: `${sub}@example.localhost` }),
  }),
  cookies: { keys: ['only for tests'] },
  pkce: { required: () => true, methods: ['S256'] },
  // oidc-provider revokes the whole grant when a spent refresh token comes back (RFC 9700 section 4.14.2).
  rotateRefreshToken: settings.rotate,
  issueRefreshToken: (_, requester) => settings.refresh_tokens && requester.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: () => settings.access_token_ttl,
    AuthorizationCode: 60,
    ClientCredentials: () => settings.access_token_ttl,
    DeviceCode: 600,
    Grant: 86400,
    IdToken: 3600,
    Interaction: 3600,
    RefreshToken: 86400,
    Session: 86400,
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    deviceFlow: {
      enabled: true,
      userCodeInputSource: (ctx, form, _, error) => {
        ctx.body = `${head('Enter the code')}${error ? '<p id="wrong">wrong code</p>' : ''}${form}
<button id="go" form="op.deviceInputForm">Continue</button></html>`;
      },
      userCodeConfirmSource: (ctx, form, client, _, code) => {
        ctx.body = `${head('Confirm the device')}<p>${escape(client.clientId)}: <code>${escape(code)}</code></p>${form}
<button id="confirm" form="op.deviceConfirmForm">Continue</button></html>`;
      },
      successSource: (ctx) => {
        ctx.body = `${head('Signed in')}</html>`;
      },
    },
    introspection: { enabled: true },
    registration: { enabled: true },
    registrationManagement: { enabled: true },
    // RFC 8707: whoever names an API gets a token for that one, with its scopes.
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'mcp:read mcp:write',
        audience: resource,
        accessTokenFormat: 'opaque',
        accessTokenTTL: settings.access_token_ttl,
      }),
    },
    revocation: { enabled: true },
  },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  renderError: (ctx, out) => {
    ctx.type = 'html';
    ctx.body = `<!doctype html><title>error</title><h1>${escape(out.error)}</h1><p>${escape(out.error_description)}</p>`;
  },
});

// ---- one page that logs in and consents, so that a browser submits one form ------------------------------------------------

const page = (uid, details) => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Sign in to the test provider</title>
<h1>Sign in</h1>
<p>${escape(details.params.client_id)} asks for: <span id="scope">${escape(details.params.scope ?? 'openid')}</span></p>
<form method="post" action="/interaction/${uid}">
<label>Login <input name="login" id="login" value="${escape(details.session?.accountId ?? '')}" required></label>
<button id="allow" name="decision" value="allow">Allow</button>
<button id="deny" name="decision" value="deny" formnovalidate>Deny</button>
</form></html>`;

async function interact(ctx) {
  const details = await provider.interactionDetails(ctx.req, ctx.res);
  if (ctx.method === 'GET') {
    ctx.type = 'html';
    ctx.body = page(details.uid, details);
    return;
  }
  const form = new URLSearchParams(ctx.req.body);
  let result = { error: 'access_denied', error_description: 'the owner said no' };
  if (form.get('decision') === 'allow') {
    const accountId = form.get('login');
    const grant = new provider.Grant({ accountId, clientId: details.params.client_id });
    grant.addOIDCScope(settings.granted_scope ?? details.params.scope ?? 'openid');
    if (details.params.resource) grant.addResourceScope(details.params.resource, details.params.scope ?? '');
    result = { login: { accountId }, consent: { grantId: await grant.save() } };
  }
  ctx.status = 303;
  ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result, { mergeWithLastSubmission: false }));
}

// An API of the same origin: what a credential is for.
async function api(ctx) {
  const given = ctx.get('authorization').replace(/^bearer /i, '');
  const token = (await provider.AccessToken.find(given)) ?? (await provider.ClientCredentials.find(given));
  ctx.status = token ? 200 : 401;
  ctx.body = token ? { login: token.accountId ?? token.clientId, scope: token.scope } : { message: 'Bad credentials' };
}

// ---- log, and planned failures -----------------------------------------------------------------------------------------------

const log = [];
let plans = [];
let held = [];

function plan(path) {
  const found = plans.find((candidate) => candidate.path === path && candidate.times !== 0);
  if (found && found.times > 0) found.times -= 1;
  return found ?? {};
}

const hold = () => new Promise((resolve) => { held.push(resolve); });

provider.use(async (ctx, next) => {
  const entry = {
    method: ctx.method,
    path: ctx.path,
    query: ctx.querystring,
    headers: ctx.req.headers,
    form: null,
    body: '',
    status: null,
    answer: null,
  };
  log.push(entry);
  if (ctx.method === 'POST') {
    // Read here, not by the provider: what was asked is in the log also when the answer is a planned failure.
    entry.body = await read(ctx.req);
    if (ctx.is('application/x-www-form-urlencoded')) entry.form = Object.fromEntries(new URLSearchParams(entry.body));
    ctx.req.body = ctx.is('application/json') ? JSON.parse(entry.body) : entry.body;
  }
  const step = plan(ctx.path);
  if (step.delay) await sleep(step.delay * 1000);
  if (step.hold === 'before') await hold();
  if (step.drop === 'before') {
    ctx.respond = false;
    ctx.req.socket.destroy();
    return;
  }
  if (step.status) {
    ctx.status = step.status;
    ctx.set(step.headers ?? {});
    ctx.body = step.body ?? '';
  } else if (ctx.path.startsWith('/interaction/')) {
    await interact(ctx);
  } else if (ctx.path === '/api/user') {
    await api(ctx);
  } else {
    await next();
  }
  entry.status = ctx.status;
  entry.answer = ctx.body && typeof ctx.body === 'object' && !Buffer.isBuffer(ctx.body) ? ctx.body : null;
  if (step.hold === 'after') await hold();
  if (step.drop === 'after') {
    // The provider has spent the token, the answer never arrives.
    ctx.respond = false;
    ctx.req.socket.destroy();
  }
});

server.on('request', provider.callback());

// ---- the control port, for the test alone ------------------------------------------------------------------------------------

const control = createServer(async (request, response) => {
  const answer = (value) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  switch (`${request.method} ${request.url}`) {
    case 'GET /log':
      return answer(log);
    case 'DELETE /log':
      log.length = 0;
      return answer({});
    case 'POST /plans':
      plans.push(JSON.parse(await read(request)));
      return answer({});
    case 'DELETE /plans':
      plans = [];
      return answer({});
    case 'PUT /lifetime':
      settings.access_token_ttl = JSON.parse(await read(request));
      return answer({});
    case 'GET /held':
      return answer(held.length);
    case 'POST /release':
      for (const resume of held.splice(0)) resume();
      return answer({});
    default:
      return response.writeHead(404).end();
  }
});
control.listen(0, '127.0.0.1');
await once(control, 'listening');

console.log(JSON.stringify({ issuer, control: control.address().port }));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
