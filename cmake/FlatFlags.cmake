# Language, warnings, hardening and sanitizers for every target of the project.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

option(FLAT_WERROR "Warnings are errors" OFF)
set(FLAT_SANITIZE "" CACHE STRING "Sanitizers: address,undefined or thread")

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O0 -g3")

add_compile_definitions(_GNU_SOURCE)
add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wvla
  -Wstrict-prototypes -Wmissing-prototypes -Wcast-align -Wwrite-strings)
add_compile_options(-fno-plt -fstack-protector-strong -ffunction-sections -fdata-sections)
# A thread's words are read in handlers of signals and on the data path: no call to find them. There are fewer than 128 bytes of
# them, which the dynamic linker has room for where the library is loaded late.
add_compile_options(-ftls-model=initial-exec)
add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,--gc-sections -Wl,--as-needed)
if(FLAT_WERROR)
  add_compile_options(-Werror)
endif()

if(FLAT_SANITIZE)
  add_compile_options(-fsanitize=${FLAT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${FLAT_SANITIZE})
  # The thread sanitizer knows no fences; gcc says so at each one. Rings order by acquire and release
  # on the words themselves, and the one fence (waking) is proved by a Spin model instead.
  if(FLAT_SANITIZE MATCHES "thread" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wno-tsan)
  endif()
else()
  add_link_options(-Wl,-z,defs)
endif()

if(FLAT_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "FLAT_FUZZ needs clang (libFuzzer): use the preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
