-- Store the listed status of the workers that exist.
local worker_hashes_at = 1 -- KEYS[worker_hashes_at], …: hash: each worker
local texts_at = 1         -- ARGV[texts_at], …: the status of each

for i = worker_hashes_at, #KEYS do
  if redis.call('TYPE', KEYS[i]).ok == 'hash' then
    redis.call('HSET', KEYS[i], 'listed', ARGV[texts_at + i - worker_hashes_at])
  end
end
