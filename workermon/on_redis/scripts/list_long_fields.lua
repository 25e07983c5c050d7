-- Return the positions, from 0 on, of the hashes whose field has at least so many bytes.
local hashes_at = 1      -- KEYS[hashes_at], …: hash: any
local field = ARGV[1]
local least = tonumber(ARGV[2])

local places = {}
for i = hashes_at, #KEYS do
  if redis.call('HSTRLEN', KEYS[i], field) >= least then places[#places + 1] = i - hashes_at end
end
return places
