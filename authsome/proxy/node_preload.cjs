// Has Node's own clients (http, https, fetch) use the proxy of `authsome run`, for versions that ignore HTTPS_PROXY.
//
// Rule: only built-in modules, and nothing is done until a program opens a connection. Without a proxy in the
// environment, or in a Node that heeds NODE_USE_ENV_PROXY, this file does nothing.
'use strict';

const [major, minor] = process.versions.node.split('.').map(Number);
const hasOwnSupport = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
const proxyUrl = process.env.AUTHSOME_RUN && (process.env.HTTPS_PROXY || process.env.https_proxy);

if (proxyUrl && !hasOwnSupport) {
  const http = require('node:http');
  const https = require('node:https');
  const net = require('node:net');

  const proxy = new URL(proxyUrl);
  const credential = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const authorization = `Basic ${Buffer.from(credential).toString('base64')}`;
  const exempt = (process.env.NO_PROXY || process.env.no_proxy || '')
    .split(',')
    .map((entry) => entry.trim().toLowerCase().replace(/^\*?\./, ''))
    .filter(Boolean);
  const headLimit = 65536;

  const isExempt = (host) => exempt.some((entry) => host === entry || host.endsWith(`.${entry}`));
  const bare = (host) => String(host).toLowerCase().replace(/^\[(.*)\]$/, '$1');

  // A connection to `host` through the proxy: `done(error)` or `done(null, socket)`.
  const tunnel = (host, port, done) => {
    const socket = net.connect({ host: proxy.hostname, port: Number(proxy.port) });
    let head = Buffer.alloc(0);
    const finish = (error) => {
      socket.removeListener('data', read);
      socket.removeListener('error', finish);
      socket.removeListener('end', cut);
      if (error) {
        socket.destroy();
        done(error);
      } else {
        done(null, socket);
      }
    };
    const cut = () => finish(new Error('the proxy of this run ended the connection'));
    const read = (bytes) => {
      head = Buffer.concat([head, bytes]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) {
        if (head.length > headLimit) cut();
        return;
      }
      const status = Number(head.subarray(9, 12).toString('latin1'));
      if (status !== 200) {
        const [, length] = /\r\ncontent-length: *(\d+)/i.exec(head.subarray(0, end).toString('latin1')) || [];
        if (head.length < end + 4 + Math.min(Number(length || 0), headLimit)) return;
        finish(new Error(`the proxy of this run refused ${host}:${port}: ${refusal(head.subarray(end + 4)) || status}`));
        return;
      }
      socket.pause();
      if (head.length > end + 4) socket.unshift(head.subarray(end + 4));
      finish(null);
    };
    socket.on('data', read).on('error', finish).on('end', cut);
    const authority = net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
    socket.write(
      `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: ${authorization}\r\n\r\n`,
    );
  };

  const refusal = (body) => {
    try {
      const { detail, hint } = JSON.parse(body.toString());
      return hint ? `${detail} (${hint})` : detail;
    } catch {
      return '';
    }
  };

  // Every agent, a program's own too: stripe-node and others never use the global one.
  const patch = (Agent, defaultPort) => {
    const direct = Agent.prototype.createConnection;
    Agent.prototype.createConnection = function createConnection(options, done) {
      const isOurs = options && typeof options === 'object' && typeof done === 'function';
      const host = isOurs ? bare(options.host || options.hostname || 'localhost') : '';
      if (!isOurs || options.socketPath || options.socket || isExempt(host)) {
        return direct.apply(this, arguments);
      }
      tunnel(host, options.port || defaultPort, (error, socket) => {
        if (error) {
          done(error);
        } else {
          done(null, defaultPort === 443 ? direct.call(this, { ...options, socket }) : socket);
        }
      });
      return undefined;
    };
  };
  patch(http.Agent, 80);
  patch(https.Agent, 443);

  // fetch's undici is not exposed, but its default dispatcher is, and tells its class.
  const dispatcher = Symbol.for('undici.globalDispatcher.1');
  const connect = ({ hostname, port, protocol, servername }, done) => {
    const host = bare(hostname);
    const isSecure = protocol === 'https:';
    const secure = (error, socket) => {
      if (error || !isSecure) {
        done(error, socket);
        return;
      }
      const tls = require('node:tls');
      const name = servername || (net.isIP(host) ? '' : host);
      const stream = tls.connect({ socket, servername: name, ALPNProtocols: ['http/1.1'] });
      const fail = (problem) => done(problem);
      stream.once('error', fail).once('secureConnect', () => {
        stream.removeListener('error', fail);
        done(null, stream);
      });
    };
    if (!isExempt(host)) {
      tunnel(host, port || (isSecure ? 443 : 80), secure);
      return;
    }
    const socket = net.connect({ host, port: port || (isSecure ? 443 : 80) });
    socket.once('error', done).once('connect', () => {
      socket.removeListener('error', done);
      secure(null, socket);
    });
  };

  const direct = globalThis.fetch;
  if (typeof direct === 'function') {
    let isReady = false;
    const prepare = () => {
      if (isReady) return;
      Reflect.deleteProperty(globalThis, dispatcher); // the accessor below; what undici has put there stays
      (async () => direct('data:,'))().catch(() => {}); // loads undici, which sets its dispatcher; nothing is sent
      const current = globalThis[dispatcher];
      isReady = current !== undefined;
      if (isReady && current.constructor.name === 'Agent') {
        globalThis[dispatcher] = new current.constructor({ connect });
      }
    };
    // The package undici takes the dispatcher that it finds, and makes one of its own only where there is none.
    Object.defineProperty(globalThis, dispatcher, {
      get() {
        prepare();
        if (!isReady) queueMicrotask(prepare); // Node's undici is being loaded just now, for Response or another global
        return Object.getOwnPropertyDescriptor(globalThis, dispatcher)?.value;
      },
      enumerable: false,
      configurable: true,
    });
    const fetch = function fetch(input, init) {
      prepare();
      return direct(input, init);
    };
    Object.defineProperty(globalThis, 'fetch', { value: fetch, writable: true, enumerable: true, configurable: true });
  }
}
