import { describe, expect, test } from 'vitest';
import { parseConfig, partiesOf, rolesOf } from './config.ts';

const PATH = '/etc/ashlar/ashlard.yaml';
const JOIN = 'join: { url: https://10.0.0.1:7401, secretFile: secret }';

describe('a configuration', () => {
  test('says what a machine does, the rest is by default', () => {
    const config = parseConfig(`name: alpha\nlisten: 10.0.0.2\nstorage:\n  directories: [/srv/a, ../b]\nhost:\n${JOIN}\n`, PATH);
    expect(config).toEqual({
      name: 'alpha', directory: '/var/lib/ashlar', listen: '10.0.0.2', manager: null, storage: { id: 'alpha', directories: ['/srv/a', '/etc/b'], port: 7402 },
      host: { id: 'alpha-host', directory: '/var/lib/ashlar/host', sockets: null }, join: { url: 'https://10.0.0.1:7401', secret: null, secretFile: '/etc/ashlar/secret' }, frozenKillAfterMs: 30_000,
    });
    expect(rolesOf(config)).toEqual(['storage', 'host']);
    expect(partiesOf(config)).toEqual([
      { party: 'alpha-daemon', role: 'daemon', address: null }, { party: 'alpha', role: 'storage', address: { host: '10.0.0.2', port: 7402 } }, { party: 'alpha-host', role: 'host', address: null },
    ]);
  });

  test('of the machine with the manager joins nobody', () => {
    expect(parseConfig('name: m\nlisten: 10.0.0.1\nmanager: { certificateLifetime: 24h }\n', PATH).manager).toEqual({ port: 7400, apiPort: 7401, certificateLifetimeMs: 86_400_000, rebuildDelayMs: 30_000 });
  });

  test.each([
    ['listen: a\nmanager:\n', /name is missing/],
    ['name: Alpha!\nlisten: a\nmanager:\n', /name is 1 to 52 of/],
    ['name: a\nmanager:\n', /listen is missing/],
    ['name: a\nlisten: "a b"\nmanager:\n', /listen is an IP address/],
    ['name: a\nlisten: 0.0.0.0\nmanager:\n', /listen is the address at which other machines/],
    ['name: a\nlisten: "::"\nmanager:\n', /listen is the address at which other machines/],
    ['name: a\nlisten: a\n', /none of manager, storage and host/],
    ['name: a\nlisten: a\nstorage:\n', /join is missing/],
    [`name: a\nlisten: a\nmanager:\n${JOIN}\n`, /join is for machines without the manager/],
    ['name: a\nlisten: a\nstorge:\n', /there is no key "storge"; known here: name, directory/],
    ['name: a\nlisten: a\nmanager: { prot: 1 }\n', /there is no key "manager.prot"; known here: port,/],
    ['name: a\nlisten: a\nmanager: [1]\n', /manager is not a mapping/],
    ['name: a\nlisten: a\nmanager: { port: 0 }\n', /manager.port is a port/],
    ['name: a\nlisten: a\nmanager: { port: 7402 }\nstorage:\n', /uses a port twice/],
    ['name: a\nlisten: a\nmanager:\nstorage: { id: x }\nhost: { id: x }\n', /uses a name twice/],
    ['name: a\nlisten: a\nmanager: { certificateLifetime: 1s }\n', /certificateLifetime is at least/],
    ['name: a\nlisten: a\nmanager: { certificateLifetime: soon }\n', /certificateLifetime .*soon/],
    ['name: a\nlisten: a\nstorage: { directories: [] }\njoin: { url: https://a }\n', /storage.directories is a list/],
    ['name: a\nlisten: a\nstorage: { directories: [/x, /x] }\njoin: { url: https://a }\n', /names a directory twice/],
    ['name: a\nlisten: a\nstorage:\njoin: { url: http://a }\n', /join.url is the URL/],
    ['name: a\nlisten: a\nstorage:\njoin: { url: https://a, secret: x, secretFile: y }\n', /not given together/],
    ['name: a\nname: b\n', /is no YAML/],
    ['name: [\n', /is no YAML/],
    ['- a\n', /it is not a mapping/],
  ])('that cannot be meant is refused: %j', (text, message) => {
    expect(() => parseConfig(text, PATH)).toThrow(message);
    expect(() => parseConfig(text, PATH)).toThrow(PATH);
  });

  test('that is no YAML is refused without a line of it: there may be a join secret in that', () => {
    const text = 'name: a\nlisten: a\nstorage:\njoin:\n  url: https://a\n  secret: "ashlar-join-1.5f\n';
    expect(() => parseConfig(text, PATH)).toThrow(/is no YAML: .* at line \d+, column \d+:$/);
    expect(() => parseConfig(text, PATH)).not.toThrow(/ashlar-join/);
  });
});
